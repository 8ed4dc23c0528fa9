// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// Memory in pieces, as a guest lays a buffer out.
@safe final class TestBuffer {
    private let storage: UnsafeMutableRawBufferPointer
    private var vectors = IOVectorArray(capacity: 4)

    /// Zeroes, in pieces of at most `pieceByteCount` bytes.
    init(byteCount: Int, pieceByteCount: Int = .max) {
        // SAFETY: freed in deinit; the pieces lie within the allocation.
        unsafe storage = .allocate(byteCount: byteCount, alignment: 512)
        unsafe storage.initializeMemory(as: UInt8.self, repeating: 0)
        var offset = 0
        while offset < byteCount, let base = unsafe storage.baseAddress {
            let count = min(pieceByteCount, byteCount - offset)
            unsafe vectors.append(base + offset, byteCount: count)
            offset += count
        }
    }

    convenience init(_ bytes: [UInt8], pieceByteCount: Int = .max) {
        self.init(byteCount: bytes.count, pieceByteCount: pieceByteCount)
        unsafe storage.copyBytes(from: bytes)
    }

    deinit {
        unsafe storage.deallocate()
    }

    var pieces: IOVectorSlice { vectors.all }

    var bytes: [UInt8] { unsafe Array(storage) }

    /// Bytes that differ from block to block and from seed to seed.
    static func pattern(block: UInt64, count: Int, seed: UInt64 = 0) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count * 512)
        for index in 0..<UInt64(count) {
            var word = (block + index) &* 0x9E37_79B9_7F4A_7C15 &+ seed
            for _ in 0..<64 {
                word = word &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                for shift in stride(from: 0, to: 64, by: 8) {
                    bytes.append(UInt8(truncatingIfNeeded: word >> UInt64(shift)))
                }
            }
        }
        return bytes
    }
}

/// READ(16) and WRITE(16) (SBC-3).
enum BlockCDB {
    static func read(_ block: UInt64, _ count: UInt32) -> (UInt64, UInt64) {
        (0x8800_0000_0000_0000 | block >> 16, block << 48 | UInt64(count) << 16)
    }

    static func write(_ block: UInt64, _ count: UInt32) -> (UInt64, UInt64) {
        (0x8A00_0000_0000_0000 | block >> 16, block << 48 | UInt64(count) << 16)
    }
}
