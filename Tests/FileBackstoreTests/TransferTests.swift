// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import Testing

/// Where a file lies: past the page cache through kernel AIO, or in memory through workers.
enum Medium: CaseIterable, CustomTestStringConvertible {
    case disk
    case memory

    var testDescription: String { self == .disk ? "on a disk" : "in memory" }
    var transfer: FileStore.Transfer { self == .disk ? .direct : .buffered }

    func folder() throws -> TestFolder { try TestFolder(inMemory: self == .memory) }
}

@Suite("A file store moves bytes")
struct TransferTests {
    @Test("to and from pieces of any number, length and address", arguments: Medium.allCases)
    func anyPieces(_ medium: Medium) throws {
        let folder = try medium.folder()
        let file = try folder.file(byteCount: 2 << 20)
        let bench = try Bench()
        let store = try bench.open(file)
        #expect(store.transfer == medium.transfer)
        let shapes: [([Int], Int)] = [
            ([512], 0), ([4096], 0), ([65536], 0), ([512, 1024, 2560], 0),
            ([512], 1), ([512], 4), ([4096], 511), ([100, 412, 3584], 0), ([1, 510, 1], 3),
            (Array(repeating: 512, count: 126), 0), (Array(repeating: 1, count: 512), 0),
        ]
        for (index, (pieces, shift)) in shapes.enumerated() {
            let offset = index * 131_072 + 512
            let memory = TestMemory(pieces: pieces, shift: shift)
            #expect(try bench.perform(.read, at: offset, memory, on: store) == .done)
            #expect(memory.firstDifference { TestFile.pattern(offset + $0) } == nil)
            let written = (0..<memory.byteCount).map { UInt8(truncatingIfNeeded: $0 &* 3 &+ index) }
            memory.bytes = written
            let operation = BlockRequest.Operation.write(isDurable: index.isMultiple(of: 2))
            #expect(try bench.perform(operation, at: offset, memory, on: store) == .done)
            let after = offset + memory.byteCount
            let onFile = try file.bytes(offset..<after)
            #expect(onFile.elementsEqual(written))
            #expect(try file.bytes(offset - 1..<offset) == [TestFile.pattern(offset - 1)])
            #expect(try file.bytes(after..<after + 1) == [TestFile.pattern(after)])
        }
    }
}
