// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import Glibc
import Kernel
import Testing

@Suite("A file store keeps its word on durability")
struct FlushTests {
    @Test("flushes what was written", arguments: Medium.allCases)
    func flush(_ medium: Medium) throws {
        let folder = try medium.folder()
        let bench = try Bench()
        let store = try bench.open(try folder.file(byteCount: 65536))
        let memory = TestMemory(pieces: [4096])
        #expect(try bench.perform(.write(isDurable: false), memory, on: store) == .done)
        #expect(try bench.perform(.flush, on: store) == .done)
        #expect(bench.calls.count(.synchronize) == (medium == .memory ? 1 : 0))
        // IO_CMD_FDSYNC is 3.
        #expect(bench.kernel.opcodes.last == (medium == .memory ? nil : 3))
    }

    @Test("asks for durable writes (RWF_DSYNC) and for no others")
    func durable() throws {
        let folder = try TestFolder()
        let bench = try Bench()
        let store = try bench.open(try folder.file(byteCount: 65536))
        let memory = TestMemory(pieces: [4096])
        #expect(try bench.perform(.write(isDurable: true), memory, on: store) == .done)
        #expect(try bench.perform(.write(isDurable: false), memory, on: store) == .done)
        #expect(try bench.perform(.read, memory, on: store) == .done)
        // RWF_DSYNC is 2, RWF_NOWAIT is 8.
        #expect(bench.kernel.flags == [10, 8, 0])
    }

    @Test("fails every flush after one that failed", arguments: Medium.allCases)
    func sticky(_ medium: Medium) throws {
        let folder = try medium.folder()
        let bench = try Bench()
        let file = try folder.file(byteCount: 65536)
        let store = try bench.open(file)
        bench.kernel.events = [0: .fail(EIO)]
        bench.calls.script(.synchronize, .fail(EIO))
        for _ in 0..<3 {
            #expect(try bench.perform(.flush, on: store) == .mediumError(goodByteCount: 0))
        }
        #expect(bench.calls.count(.synchronize) + bench.kernel.opcodes.count == 1)
        let memory = TestMemory(pieces: [4096])
        #expect(try bench.perform(.read, memory, on: store) == .done)
        store.close()
        let again = try bench.open(file)
        #expect(try bench.perform(.flush, on: again) == .done)
    }

    @Test("lets a full file system fail a flush for good, too")
    func stickyNoSpace() throws {
        let folder = try TestFolder(inMemory: true)
        let bench = try Bench()
        let store = try bench.open(try folder.file(byteCount: 65536))
        bench.calls.script(.synchronize, .fail(ENOSPC))
        #expect(try bench.perform(.flush, on: store) == .noSpace)
        #expect(try bench.perform(.flush, on: store) == .mediumError(goodByteCount: 0))
    }

    @Test("distrusts later flushes when a durable write has failed", arguments: Medium.allCases)
    func durableWriteFails(_ medium: Medium) throws {
        let folder = try medium.folder()
        let bench = try Bench()
        let store = try bench.open(try folder.file(byteCount: 65536))
        bench.kernel.events = [0: .fail(EIO)]
        bench.calls.script(.durableWrite, .fail(EIO))
        let memory = TestMemory(pieces: [4096])
        let lost = BlockOutcome.mediumError(goodByteCount: 0)
        #expect(try bench.perform(.write(isDurable: true), memory, on: store) == lost)
        #expect(try bench.perform(.flush, on: store) == lost)
    }

    @Test("keeps flushing after a plain write that failed")
    func plainWriteFails() throws {
        let folder = try TestFolder()
        let bench = try Bench()
        let store = try bench.open(try folder.file(byteCount: 65536))
        bench.kernel.events = [0: .fail(EIO)]
        let memory = TestMemory(pieces: [4096])
        #expect(
            try bench.perform(.write(isDurable: false), memory, on: store)
                == .mediumError(goodByteCount: 0))
        #expect(try bench.perform(.flush, on: store) == .done)
    }

    @Test("has nothing to flush on a read-only disk, and writes nothing there")
    func readOnly() throws {
        let folder = try TestFolder()
        let bench = try Bench()
        let store = try bench.open(try folder.file(byteCount: 65536), readOnly: true)
        #expect(try bench.perform(.flush, on: store) == .done)
        let memory = TestMemory(pieces: [4096])
        for operation in [
            .write(isDurable: false), .write(isDurable: true), .discard,
            .writeZeroes(mayFree: true),
        ] as [BlockRequest.Operation] {
            #expect(try bench.perform(operation, memory, on: store) == .unsupported)
        }
        #expect(bench.kernel.submitCounts.isEmpty)
    }
}
