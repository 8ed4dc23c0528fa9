// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import Testing

/// Two services that have the same disk, while its guest migrates from the one to the other.
@Suite("The lock of a store")
struct LockTests {
    private let folder: TestFolder
    private let file: TestFile
    private let bench: Bench

    init() throws {
        folder = try TestFolder()
        file = try folder.file(byteCount: 8192)
        bench = try Bench()
    }

    private func open(readOnly: Bool = false, isShared: Bool = false) throws -> FileStore {
        FileStore(
            try DiskFile(path: file.path, readOnly: readOnly, isShared: isShared, locks: false),
            context: bench.context)
    }

    private func read(_ store: FileStore) throws -> BlockOutcome? {
        try bench.perform(.read, TestMemory(pieces: [512]), on: store)
    }

    @Test("goes from one to the other, and back, and only who has it is served")
    func handover() throws {
        let first = try bench.open(file)
        let second = try open()
        #expect(first.isLocked && !second.isLocked)
        #expect(try read(second) == .busy)
        #expect(throws: FileStoreError.locked(path: file.path, readOnly: false)) {
            try second.lock()
        }
        #expect(first.unlock() && !first.isLocked)
        try second.lock()
        #expect(try read(second) == .done)
        #expect(try read(first) == .busy)
        #expect(second.unlock())
        // Who is asked while nobody has it takes it.
        #expect(try read(first) == .done)
        #expect(try read(second) == .busy)
        first.close()
        second.close()
    }

    @Test("stays while a request is under way")
    func busy() throws {
        let store = try bench.open(file)
        bench.submit(.read, TestMemory(pieces: [512]), to: store)
        #expect(!store.unlock() && store.isLocked)
        try bench.finish()
        #expect(store.unlock())
        store.close()
    }

    @Test("brings the size that the file has by then")
    func size() throws {
        let store = try open()
        #expect(store.geometry.blockCount == 16)
        file.resize(to: 16384)
        try store.lock()
        #expect(store.geometry.blockCount == 32)
        store.close()
    }

    @Test("of a disk for reading, or a shared one, keeps no such store out, and stays")
    func others() throws {
        for (readOnly, isShared) in [(true, false), (false, true)] {
            let first = try open(readOnly: readOnly, isShared: isShared)
            let second = try open(readOnly: readOnly, isShared: isShared)
            #expect(first.isLocked && second.isLocked)
            #expect(first.unlock() && first.isLocked)
            #expect(try read(first) == .done)
            #expect(try read(second) == .done)
            first.close()
            second.close()
        }
    }
}
