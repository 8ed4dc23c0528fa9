// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import Glibc
import Kernel
import Testing

@Suite("A file store frees and clears")
struct DiscardTests {
    /// Ranges with aligned edges, unaligned ones, within one block of the file system, all of it.
    static let ranges = [0..<65536, 512..<1024, 512..<9216, 4096..<8192, 3584..<4608, 0..<1 << 18]
    static let operations: [BlockRequest.Operation] = [
        .discard, .writeZeroes(mayFree: true), .writeZeroes(mayFree: false),
    ]

    @Test("and leaves the neighbours alone", arguments: Medium.allCases)
    func edges(_ medium: Medium) throws {
        let folder = try medium.folder()
        let bench = try Bench()
        for (index, operation) in Self.operations.enumerated() {
            for (place, range) in Self.ranges.enumerated() {
                let file = try folder.file("\(index).\(place)", byteCount: 1 << 18)
                let store = try bench.open(file)
                let outcome = try bench.perform(
                    operation, at: range.lowerBound, byteCount: range.count, on: store)
                #expect(outcome == .done)
                let bytes = try file.bytes(0..<1 << 18)
                let wrong = bytes.indices.first {
                    bytes[$0] != (range.contains($0) ? 0 : TestFile.pattern($0))
                }
                #expect(wrong == nil, "\(operation) of \(range)")
                #expect(bytes.count == 1 << 18)
                store.close()
            }
        }
    }

    @Test("gives space back to the file system, or keeps it, as it was asked to")
    func space() throws {
        let folder = try TestFolder()
        let bench = try Bench()
        let file = try folder.file(byteCount: 1 << 20)
        let store = try bench.open(file)
        let whole = file.allocatedByteCount
        #expect(
            try bench.perform(.writeZeroes(mayFree: false), byteCount: 1 << 20, on: store)
                == .done)
        #expect(file.allocatedByteCount == whole)
        #expect(try bench.perform(.discard, byteCount: 1 << 19, on: store) == .done)
        #expect(file.allocatedByteCount == whole - 1 << 19)
        #expect(
            try bench.perform(.writeZeroes(mayFree: true), byteCount: 1 << 20, on: store)
                == .done)
        #expect(file.allocatedByteCount < 1 << 16)
    }

    @Test("writes zeroes where nothing better works", arguments: [EOPNOTSUPP, ENOSYS])
    func fallback(_ code: Int32) throws {
        let folder = try TestFolder()
        let bench = try Bench()
        bench.calls.script(.punchHole, .failAlways(code))
        bench.calls.script(.zeroRange, .failAlways(code))
        bench.calls.script(.write, .cutTo(4096))
        for mayFree in [false, true] {
            let file = try folder.file("\(mayFree)", byteCount: 1 << 18)
            let store = try bench.open(file)
            let outcome = try bench.perform(
                .writeZeroes(mayFree: mayFree), at: 512, byteCount: 200 << 10, on: store)
            #expect(outcome == .done)
            let bytes = try file.bytes(0..<1 << 18)
            let range = 512..<512 + 200 << 10
            #expect(
                bytes.indices.allSatisfy {
                    bytes[$0] == (range.contains($0) ? 0 : TestFile.pattern($0))
                })
        }
    }

    @Test("says that it cannot free where the file system cannot")
    func unsupported() throws {
        let folder = try TestFolder()
        let bench = try Bench()
        bench.calls.script(.punchHole, .failAlways(EOPNOTSUPP))
        let store = try bench.open(try folder.file(byteCount: 65536))
        #expect(try bench.perform(.discard, byteCount: 4096, on: store) == .unsupported)
    }

    @Test(
        "reports what goes wrong",
        arguments: [(EIO, .mediumError(goodByteCount: 0)), (ENOSPC, .noSpace)]
            as [(Int32, BlockOutcome)])
    func fails(_ code: Int32, _ outcome: BlockOutcome) throws {
        let folder = try TestFolder()
        let bench = try Bench()
        let store = try bench.open(try folder.file(byteCount: 65536))
        bench.calls.script(.punchHole, .fail(code))
        bench.calls.script(.zeroRange, .fail(code))
        #expect(try bench.perform(.discard, byteCount: 4096, on: store) == outcome)
        #expect(
            try bench.perform(.writeZeroes(mayFree: false), byteCount: 4096, on: store)
                == outcome)
    }
}
