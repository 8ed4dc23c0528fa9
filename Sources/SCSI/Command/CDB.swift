// SPDX-License-Identifier: Apache-2.0

/// A command descriptor block: up to 32 bytes that say what a command is (SPC-4, CDB).
public struct CDB: BitwiseCopyable, Equatable, Sendable {
    /// The most bytes that are kept; longer ones belong to commands that nobody here knows.
    public static let byteLimit = 32

    /// Bytes 0 to 15, the first the most significant.
    let head: UInt128
    /// Bytes 16 to 31, the first the most significant.
    let tail: UInt128

    /// A CDB from four words as they stand in memory, whatever the byte order of this machine.
    @inline(__always)
    public init(words: (UInt64, UInt64, UInt64, UInt64)) {
        head = UInt128(UInt64(bigEndian: words.0)) << 64 | UInt128(UInt64(bigEndian: words.1))
        tail = UInt128(UInt64(bigEndian: words.2)) << 64 | UInt128(UInt64(bigEndian: words.3))
    }

    /// A CDB from its bytes; those that are not given are zero.
    public init(_ bytes: [UInt8]) {
        var halves: (UInt128, UInt128) = (0, 0)
        for (index, byte) in bytes.prefix(Self.byteLimit).enumerated() {
            if index < 16 {
                halves.0 |= UInt128(byte) << UInt128(8 * (15 - index))
            } else {
                halves.1 |= UInt128(byte) << UInt128(8 * (31 - index))
            }
        }
        head = halves.0
        tail = halves.1
    }

    /// Byte 0.
    @inline(__always)
    public var operationCode: UInt8 { UInt8(truncatingIfNeeded: head >> 120) }

    /// The service action of the CDBs that have one in byte 1.
    public var serviceAction: UInt8 { self[1] & 0x1F }

    /// One byte; zero past the end.
    @inline(__always)
    public subscript(index: Int) -> UInt8 {
        if index < 16 { return UInt8(truncatingIfNeeded: head >> UInt128(8 * (15 - index))) }
        return UInt8(truncatingIfNeeded: tail >> UInt128(8 * max(0, 31 - index)))
    }

    /// The two bytes from `index`, which is at most 14, as a number.
    @inline(__always)
    public func uint16(at index: Int) -> UInt16 {
        UInt16(truncatingIfNeeded: head >> UInt128(8 * (14 - index)))
    }

    /// The three bytes from `index`, which is at most 13, as a number.
    @inline(__always)
    public func uint24(at index: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: head >> UInt128(8 * (13 - index))) & 0xFF_FFFF
    }

    /// The four bytes from `index`, which is at most 12, as a number.
    @inline(__always)
    public func uint32(at index: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: head >> UInt128(8 * (12 - index)))
    }

    /// The eight bytes from `index`, which is at most 8, as a number.
    @inline(__always)
    public func uint64(at index: Int) -> UInt64 {
        UInt64(truncatingIfNeeded: head >> UInt128(8 * (8 - index)))
    }
}
