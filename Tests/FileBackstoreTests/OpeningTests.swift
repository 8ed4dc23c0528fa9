// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import Glibc
import Testing

@Suite("Opening a file store")
struct OpeningTests {
    private func refusal(
        _ path: String, readOnly: Bool = false, blockSize: Int? = nil, _ bench: Bench? = nil
    ) throws -> FileStoreError? {
        let bench = try bench ?? Bench()
        do throws(FileStoreError) {
            _ = try bench.open(TestFile(path: path), readOnly: readOnly, blockSize: blockSize)
            return nil
        } catch {
            return error
        }
    }

    @Test("names a file that does not exist")
    func missing() throws {
        let error = try refusal("/nonexistent/disk")
        #expect(error == .noSuchFile(path: "/nonexistent/disk"))
        #expect(error?.description == "/nonexistent/disk: no such file")
    }

    @Test("refuses what holds no blocks, without waiting for the other end of a pipe")
    func kinds() throws {
        let folder = try TestFolder()
        #expect(try refusal(folder.path) == .notADisk(path: folder.path, kind: "a directory"))
        #expect(
            try refusal("/dev/null") == .notADisk(path: "/dev/null", kind: "a character device"))
        let pipe = folder.path + "/pipe"
        try #require(unsafe mkfifo(pipe, 0o600) == 0)
        #expect(try refusal(pipe) == .notADisk(path: pipe, kind: "a pipe"))
        #expect(
            try refusal(folder.path)?.description
                == "\(folder.path): is a directory, not a regular file or a block device")
    }

    @Test("says what may not be written")
    func permission() throws {
        // Nobody may open this file for writing, not even root.
        let path = "/sys/kernel/uevent_seqnum"
        #expect(try refusal(path) == .permissionDenied(path: path, readOnly: false))
    }

    @Test("refuses a size that is not a multiple of the block size", arguments: [512, 4096])
    func oddSize(_ blockSize: Int) throws {
        let folder = try TestFolder()
        let file = try folder.file(byteCount: 8192 + 100)
        let error = try refusal(file.path, blockSize: blockSize)
        #expect(
            error
                == .sizeNotMultiple(path: file.path, byteCount: 8292, blockSize: blockSize))
        #expect(
            error?.description
                == "\(file.path): 8292 bytes are not a multiple of the block size, "
                + "\(blockSize) bytes")
    }

    @Test("refuses an empty file and block sizes that no disk has")
    func degenerate() throws {
        let folder = try TestFolder()
        let empty = try folder.file("empty", byteCount: 0)
        #expect(try refusal(empty.path) == .empty(path: empty.path))
        let file = try folder.file(byteCount: 8192)
        for size in [-1, 0, 1, 256, 1024, 8192] {
            #expect(
                try refusal(file.path, blockSize: size)
                    == .invalidBlockSize(path: file.path, blockSize: size))
        }
    }

    @Test("keeps everybody else out of a writable file until it is closed")
    func exclusive() throws {
        let folder = try TestFolder()
        let file = try folder.file(byteCount: 8192)
        let bench = try Bench()
        let store = try bench.open(file)
        #expect(try refusal(file.path) == .locked(path: file.path, readOnly: false))
        #expect(try refusal(file.path, bench) == .locked(path: file.path, readOnly: false))
        #expect(try refusal(file.path, readOnly: true) == .locked(path: file.path, readOnly: true))
        store.close()
        #expect(try refusal(file.path) == nil)
    }

    @Test("lets read-only disks share a file and no writer in")
    func shared() throws {
        let folder = try TestFolder()
        let file = try folder.file(byteCount: 8192)
        let bench = try Bench()
        let first = try bench.open(file, readOnly: true)
        let second = try bench.open(file, readOnly: true)
        #expect(first.isReadOnly && second.isReadOnly)
        #expect(try refusal(file.path) == .locked(path: file.path, readOnly: false))
    }

    @Test("lets disks share a file that say so, and nobody else in, whoever comes first")
    func services() throws {
        let folder = try TestFolder()
        let file = try folder.file(byteCount: 8192)
        func open(readOnly: Bool, isShared: Bool) throws(FileStoreError) -> DiskFile {
            try DiskFile(path: file.path, readOnly: readOnly, isShared: isShared)
        }
        func refuses(readOnly: Bool, isShared: Bool) -> Bool {
            do throws(FileStoreError) {
                _ = try open(readOnly: readOnly, isShared: isShared)
                return false
            } catch {
                return error == .locked(path: file.path, readOnly: readOnly)
            }
        }
        do {
            let first = try open(readOnly: false, isShared: true)
            #expect(!refuses(readOnly: false, isShared: true))
            #expect(!refuses(readOnly: true, isShared: true))
            #expect(refuses(readOnly: false, isShared: false))
            #expect(refuses(readOnly: true, isShared: false))
            #expect(first.path == file.path)
        }
        for readOnly in [false, true] {
            let first = try open(readOnly: readOnly, isShared: false)
            #expect(refuses(readOnly: false, isShared: true))
            #expect(refuses(readOnly: true, isShared: true))
            #expect(first.path == file.path)
        }
        #expect(
            FileStoreError.locked(path: "x", readOnly: false).description
                == "x: in use by another process or another disk of this one; services share a disk "
                + "when each has it with shared and the same reservations=")
    }

    @Test("leaves nothing open when it fails")
    func leaks() throws {
        let folder = try TestFolder()
        let file = try folder.file(byteCount: 8192 + 1)
        let bench = try Bench()
        _ = try refusal(file.path, bench)
        let before = try openFiles(named: file.path)
        #expect(before == 0)
    }

    /// How many descriptors of this process are open on a file.
    private func openFiles(named path: String) throws -> Int {
        guard let folder = unsafe opendir("/proc/self/fd") else { return -1 }
        defer { unsafe _ = closedir(folder) }
        var count = 0
        while let entry = unsafe readdir(folder) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) {
                unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            var target = [UInt8](repeating: 0, count: 4096)
            let length = unsafe target.withUnsafeMutableBytes { bytes in
                unsafe bytes.withMemoryRebound(to: CChar.self) {
                    unsafe $0.baseAddress.map {
                        unsafe readlink("/proc/self/fd/\(name)", $0, 4096)
                    } ?? -1
                }
            }
            if length > 0, String(decoding: target.prefix(length), as: UTF8.self) == path {
                count += 1
            }
        }
        return count
    }

    @Test("shows the shape of a file on a disk")
    func diskGeometry() throws {
        let folder = try TestFolder()
        let file = try folder.file(byteCount: 1 << 20, byteAt: nil)
        let bench = try Bench()
        let store = try bench.open(file)
        #expect(store.geometry.blockSize == 512)
        #expect(store.geometry.blockCount == 2048)
        #expect(store.geometry.physicalBlockSize == 4096)
        #expect(store.geometry.discardGranularity == 4096)
        #expect(store.geometry.discardReadsZeroes)
        #expect(store.transfer == .direct)
        store.close()
        let large = try bench.open(file, blockSize: 4096)
        #expect(large.geometry.blockSize == 4096)
        #expect(large.geometry.blockCount == 256)
    }

    @Test("shows that a file in memory goes through the page cache")
    func memoryGeometry() throws {
        let folder = try TestFolder(inMemory: true)
        let file = try folder.file(byteCount: 1 << 20, byteAt: nil)
        let store = try Bench().open(file)
        #expect(store.transfer == .buffered)
        #expect(store.geometry.blockCount == 2048)
        #expect(store.geometry.discardGranularity == 4096)
    }

    @Test("does not let a read-only disk free blocks")
    func readOnlyGeometry() throws {
        let folder = try TestFolder()
        let file = try folder.file(byteCount: 1 << 20, byteAt: nil)
        let store = try Bench().open(file, readOnly: true)
        #expect(store.geometry.discardGranularity == 0)
    }

    @Test("sees a file grow and shrink when asked to look")
    func resize() throws {
        let folder = try TestFolder()
        let file = try folder.file(byteCount: 8192)
        let bench = try Bench()
        let store = try bench.open(file)
        #expect(try store.refreshSize() == false)
        file.resize(to: 1 << 20)
        #expect(store.geometry.blockCount == 16)
        #expect(try store.refreshSize())
        #expect(store.geometry.blockCount == 2048)
        file.resize(to: 4096 + 700)
        #expect(try store.refreshSize())
        #expect(store.geometry.blockCount == 9)
        #expect(
            try bench.perform(.read, at: 4608, TestMemory(pieces: [512]), on: store)
                == .outOfRange)
    }
}
