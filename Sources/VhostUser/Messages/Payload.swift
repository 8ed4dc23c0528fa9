// SPDX-License-Identifier: Apache-2.0

/// Reads the fields of a payload, one after the other.
///
/// Fields are in the host's byte order (vhost-user, "Header"), which is little-endian wherever
/// this back-end runs.
struct PayloadReader {
    private let bytes: [UInt8]
    private var offset = 0

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// Bytes that have not been read.
    var remainder: ArraySlice<UInt8> { bytes[offset...] }

    /// The next u32; 0 past the end.
    mutating func readUInt32() -> UInt32 { UInt32(truncatingIfNeeded: readInteger(byteCount: 4)) }

    /// The next u64; 0 past the end.
    mutating func readUInt64() -> UInt64 { readInteger(byteCount: 8) }

    private mutating func readInteger(byteCount: Int) -> UInt64 {
        guard bytes.count - offset >= byteCount else { return 0 }
        var value: UInt64 = 0
        for index in (offset..<offset + byteCount).reversed() {
            value = value << 8 | UInt64(bytes[index])
        }
        offset += byteCount
        return value
    }
}

/// Writes the fields of a payload, one after the other.
struct PayloadWriter {
    private(set) var bytes: [UInt8] = []

    mutating func append(_ value: UInt32) { append(UInt64(value), byteCount: 4) }
    mutating func append(_ value: UInt64) { append(value, byteCount: 8) }
    mutating func append(_ more: [UInt8]) { bytes += more }

    private mutating func append(_ value: UInt64, byteCount: Int) {
        for index in 0..<byteCount {
            bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index)))
        }
    }
}
