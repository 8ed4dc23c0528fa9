// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import Testing

@Suite("A file store on a block device", .serialized)
struct BlockDeviceTests {
    private static func device(_ blockSize: Int) throws -> LoopDevice {
        try LoopDevice("\(blockSize)", ["--sector-size", "\(blockSize)"])
    }

    @Test("has its block size and its size, and goes past the page cache", arguments: [512, 4096])
    func geometry(_ blockSize: Int) throws {
        let bench = try Bench()
        let device = try Self.device(blockSize)
        let store = try bench.open(device.file)
        defer { store.close() }
        #expect(store.geometry.blockSize == blockSize)
        #expect(store.geometry.blockCount == UInt64((16 << 20) / blockSize))
        #expect(store.geometry.discardGranularity > 0)
        #expect(store.transfer == .direct)
        #expect(try store.refreshSize() == false)
    }

    @Test("moves bytes to and from pieces of any length and address", arguments: [512, 4096])
    func transfer(_ blockSize: Int) throws {
        let bench = try Bench()
        let device = try Self.device(blockSize)
        let store = try bench.open(device.file)
        defer { store.close() }
        for (index, shift) in [0, 1, 512].enumerated() {
            let memory = TestMemory(
                pieces: [blockSize, 100, 412, 2 * blockSize - 512], shift: shift)
            let offset = 1 << 20 + 65536 * index
            let bytes = (0..<memory.byteCount).map { TestFile.pattern($0 + index) }
            memory.bytes = bytes
            let operation = BlockRequest.Operation.write(isDurable: index == 0)
            #expect(try bench.perform(operation, at: offset, memory, on: store) == .done)
            memory.bytes = [UInt8](repeating: 0, count: memory.byteCount)
            #expect(try bench.perform(.read, at: offset, memory, on: store) == .done)
            #expect(memory.bytes == bytes)
            #expect(try bench.perform(.flush, on: store) == .done)
            #expect(try device.file.bytes(offset..<offset + memory.byteCount) == bytes)
        }
        let end = TestMemory(pieces: [blockSize])
        #expect(try bench.perform(.read, at: 16 << 20, end, on: store) == .outOfRange)
    }

    @Test("frees and clears, and leaves the neighbours alone", arguments: [512, 4096])
    func clear(_ blockSize: Int) throws {
        let bench = try Bench()
        let device = try Self.device(blockSize)
        let store = try bench.open(device.file)
        defer { store.close() }
        let whole = TestMemory(pieces: [1 << 18])
        for operation in [
            .discard, .writeZeroes(mayFree: true), .writeZeroes(mayFree: false),
        ] as [BlockRequest.Operation] {
            whole.bytes = (0..<1 << 18).map(TestFile.pattern)
            #expect(try bench.perform(.write(isDurable: false), whole, on: store) == .done)
            let range = 8192..<8192 + 65536
            #expect(
                try bench.perform(
                    operation, at: range.lowerBound, byteCount: range.count, on: store) == .done)
            #expect(try bench.perform(.read, whole, on: store) == .done)
            let bytes = whole.bytes
            let wrong = bytes.indices.first {
                bytes[$0] != (range.contains($0) ? 0 : TestFile.pattern($0))
            }
            #expect(wrong == nil, "\(operation)")
        }
    }

    @Test("has the device for itself")
    func exclusive() throws {
        let bench = try Bench()
        let device = try Self.device(512)
        let store = try bench.open(device.file)
        #expect(throws: FileStoreError.inUse(path: device.file.path)) {
            _ = try bench.open(device.file)
        }
        store.close()
        try bench.open(device.file).close()
    }

    @Test("is read-only where the device is")
    func readOnly() throws {
        let bench = try Bench()
        let device = try LoopDevice("READ_ONLY", ["--read-only"])
        #expect(throws: FileStoreError.readOnlyMedium(path: device.file.path)) {
            _ = try bench.open(device.file)
        }
        let store = try bench.open(device.file, readOnly: true)
        defer { store.close() }
        #expect(try bench.perform(.read, TestMemory(pieces: [4096]), on: store) == .done)
        let memory = TestMemory(pieces: [4096])
        #expect(try bench.perform(.write(isDurable: false), memory, on: store) == .unsupported)
    }
}
