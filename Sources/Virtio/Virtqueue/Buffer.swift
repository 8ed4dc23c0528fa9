// SPDX-License-Identifier: Apache-2.0

/// A buffer that the driver made available and the device took: one descriptor chain, the
/// device-readable part first, the device-writable part after it (virtio 1.3 §2.6).
///
/// A small value; the pieces of memory stand in the `IOVectorArray` that it was taken into.
public struct Buffer: BitwiseCopyable, Sendable {
    /// Id, entries and first piece, from the low bits up.
    ///
    /// Whole words: a queue gives a buffer as four registers full, and nobody packs and unpacks
    /// smaller fields on the way.
    private let place: UInt64
    /// How many pieces may be read, and how many may be written, from the low bits up.
    private let pieceCounts: UInt64
    /// Bytes that the device may read.
    public let readableLength: UInt64
    private let writable: OptionalRoom

    /// Bytes that the device may write.
    @inline(__always)
    public var writableLength: UInt64 { writable.value }

    @inline(__always)
    init(
        id: UInt16, entries: Int, pieces: (first: Int, firstWritable: Int, end: Int),
        readableLength: UInt64, writableLength: UInt64
    ) {
        place =
            UInt64(id) | UInt64(truncatingIfNeeded: entries) &<< 16
            | UInt64(truncatingIfNeeded: pieces.first) &<< 32
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
    public var firstPiece: UInt32 { UInt32(truncatingIfNeeded: place &>> 32) }

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
