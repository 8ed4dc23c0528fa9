// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import Testing

@Suite("A file store's twin on another loop", .serialized)
struct TwinTests {
    @Test("reads what the other one writes, and the other way round", arguments: [false, true])
    func bothWays(inMemory: Bool) throws {
        let folder = try TestFolder(inMemory: inMemory)
        let file = try folder.file(byteCount: 1 << 20)
        let (bench, other) = (try Bench(), try Bench())
        let store = try bench.open(file)
        let twin = FileStore(try #require(store.twin), context: other.context)
        #expect(twin.transfer == store.transfer)
        for (writer, reader) in [
            ((bench, store), (other, twin)), ((other, twin), (bench, store)),
        ] {
            let written = TestMemory(pieces: [4096, 512], shift: 512, filledWith: 0x5A)
            #expect(
                try writer.0.perform(
                    .write(isDurable: false), at: 8192, written, on: writer.1) == .done)
            let read = TestMemory(pieces: [4608])
            #expect(try reader.0.perform(.read, at: 8192, read, on: reader.1) == .done)
            #expect(read.firstDifference { _ in 0x5A } == nil)
        }
        store.close()
        twin.close()
    }

    @Test("leaves it to its user how big the medium is, and fails behind the end")
    func end() throws {
        let folder = try TestFolder()
        let file = try folder.file(byteCount: 1 << 20)
        let (bench, other) = (try Bench(), try Bench())
        let store = try bench.open(file)
        let twin = FileStore(try #require(store.twin), context: other.context)
        let memory = TestMemory(pieces: [4096])
        #expect(try other.perform(.read, at: 1 << 20, memory, on: twin) == .outOfRange)
        file.resize(to: 2 << 20)
        #expect(try other.perform(.read, at: 1 << 20, memory, on: twin) == .done)
        store.close()
        twin.close()
        #expect(store.twin == nil)
    }

    @Test("keeps the file locked until it is closed, too")
    func lock() throws {
        let folder = try TestFolder()
        let file = try folder.file(byteCount: 8192)
        let (bench, other) = (try Bench(), try Bench())
        let store = try bench.open(file)
        let twin = FileStore(try #require(store.twin), context: other.context)
        store.close()
        #expect(throws: FileStoreError.locked(path: file.path, readOnly: false)) {
            _ = try bench.open(file)
        }
        twin.close()
        try bench.open(file).close()
    }
}
