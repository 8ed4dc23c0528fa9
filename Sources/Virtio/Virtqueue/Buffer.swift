// SPDX-License-Identifier: Apache-2.0

/// A buffer that the driver made available and the device took: one descriptor chain, the
/// device-readable part first, the device-writable part after it (virtio 1.3 §2.6).
///
/// A small value; the pieces of memory stand in the `IOVectorArray` that it was taken into.
public struct Buffer: BitwiseCopyable, Sendable {
    /// Id, entries, first piece and, in the last bit, whether the buffer is cut, from the low bits up.
    ///
    /// Whole words: a queue gives a buffer as four registers full, and nobody packs and unpacks
    /// smaller fields on the way.
    private let place: UInt64
    /// How many pieces may be read, and how many may be written, from the low bits up.
    private let pieceCounts: UInt64
    /// Bytes that the device may read, as far as they can be reached.
    public let readableLength: UInt64
    private let writable: OptionalRoom

    /// Bytes that the device may write, as far as they can be reached.
    @inline(__always)
    public var writableLength: UInt64 { writable.value }

    @inline(__always)
    init(
        id: UInt16, entries: Int, pieces: (first: Int, firstWritable: Int, end: Int),
        readableLength: UInt64, writableLength: UInt64, isCut: Bool = false
    ) {
        place =
            UInt64(id) | UInt64(truncatingIfNeeded: entries) &<< 16
            | UInt64(truncatingIfNeeded: pieces.first) &<< 32 | (isCut ? Self.cutBit : 0)
        pieceCounts =
            UInt64(truncatingIfNeeded: pieces.firstWritable &- pieces.first)
            | UInt64(truncatingIfNeeded: pieces.end &- pieces.firstWritable) &<< 32
        self.readableLength = readableLength
        writable = OptionalRoom(writableLength)
    }

    /// The head's index (split) or the buffer id (packed).
    @inline(__always)
    public var id: UInt16 { UInt16(truncatingIfNeeded: place) }

    /// Descriptors that the chain uses in the ring: of an indirect chain, one.
    @inline(__always)
    public var descriptorCount: UInt16 { UInt16(truncatingIfNeeded: place &>> 16) }

    /// Where the device-readable pieces start in the list.
    @inline(__always)
    public var firstPiece: UInt32 { UInt32(truncatingIfNeeded: (place & ~Self.cutBit) &>> 32) }

    /// Whether a part of the buffer lies outside the memory that the front-end shares.
    ///
    /// Legal, if rare: QEMU leaves out memory that is hot-plugged and not shared. Readable and writable
    /// pieces each end before the first part that cannot be reached; the request has to fail.
    @inline(__always)
    public var isCut: Bool { place & Self.cutBit != 0 }

    private static var cutBit: UInt64 { 1 << 63 }

    /// How many pieces the device may read.
    @inline(__always)
    public var readablePieceCount: UInt32 { UInt32(truncatingIfNeeded: pieceCounts) }

    /// How many pieces the device may write; they follow the readable ones.
    @inline(__always)
    public var writablePieceCount: UInt32 { UInt32(truncatingIfNeeded: pieceCounts &>> 32) }

    /// Where the device-readable pieces stand in the list.
    @inline(__always)
    public var readablePieces: Range<Int> {
        Int(firstPiece)..<Int(firstPiece &+ readablePieceCount)
    }

    /// Where the device-writable pieces stand in the list.
    @inline(__always)
    public var writablePieces: Range<Int> {
        let start = Int(firstPiece &+ readablePieceCount)
        return start..<start &+ Int(writablePieceCount)
    }
}

/// A buffer that the device has done with.
public struct UsedBuffer: BitwiseCopyable, Sendable {
    /// `Buffer.id`.
    public let id: UInt16
    /// Bytes that the device really wrote, from the start of the writable part.
    public let writtenLength: UInt32

    @inline(__always)
    public init(id: UInt16, writtenLength: UInt32) {
        self.id = id
        self.writtenLength = writtenLength
    }
}
