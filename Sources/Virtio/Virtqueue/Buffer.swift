// SPDX-License-Identifier: Apache-2.0

/// A buffer that the driver made available and the device took: one descriptor chain, the
/// device-readable part first, the device-writable part after it (virtio 1.3 §2.6).
///
/// A small value; the pieces of memory stand in the `IOVectorArray` that it was taken into.
public struct Buffer: BitwiseCopyable, Sendable {
    /// The head's index (split) or the buffer id (packed).
    public let id: UInt16
    /// Descriptors that the chain uses in the ring: of an indirect chain, one.
    public let descriptorCount: UInt16
    /// Where the device-readable pieces start in the list.
    public let firstPiece: UInt32
    /// How many pieces the device may read.
    public let readablePieceCount: UInt32
    /// How many pieces the device may write; they follow the readable ones.
    public let writablePieceCount: UInt32
    /// Bytes that the device may read.
    public let readableLength: UInt64
    /// Bytes that the device may write.
    public let writableLength: UInt64

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
