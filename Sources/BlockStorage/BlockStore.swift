// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// What lies behind a disk: numbered blocks of one size on some medium.
///
/// A store belongs to one event loop's thread. Every request that was submitted ends in exactly
/// one call of its owner, never from inside `submit`.
public protocol BlockStore: AnyObject {
    /// Shape of the medium. The block count may grow or shrink while the store is open.
    var geometry: BlockGeometry { get }

    /// Whether writes are refused.
    var isReadOnly: Bool { get }

    /// Queues a request. It is handed to the kernel with the others of this turn of the loop.
    ///
    /// - Parameters:
    ///   - request: what to do; its pieces stay valid and mapped until the owner is called.
    ///   - owner: is called once on the loop's thread when the request has ended.
    ///   - token: handed back to the owner.
    func submit(_ request: BlockRequest, owner: any BlockRequestOwner, token: UInt64)

    /// Ends the store after the requests that are under way; called once.
    func close()
}

/// Who submitted requests to a store.
public protocol BlockRequestOwner: AnyObject {
    /// A request has ended. Called on the loop's thread.
    func blockRequestEnded(token: UInt64, outcome: BlockOutcome)
}

/// Shape of a store.
public struct BlockGeometry: Equatable, Sendable {
    /// Bytes a block, the unit of addresses: 512 or 4096.
    public var blockSize: Int
    /// How many blocks.
    public var blockCount: UInt64
    /// Bytes that the medium writes at once: a multiple of the block size.
    public var physicalBlockSize: Int
    /// Bytes that the medium can free at once; 0 when it cannot free.
    public var discardGranularity: Int
    /// Whether freed blocks read as zeroes.
    public var discardReadsZeroes: Bool
    /// Bytes that the medium likes to get at once; 0 when it does not say.
    public var optimalTransferSize: Int
    /// Whether the medium turns.
    public var isRotational: Bool

    public init(blockSize: Int, blockCount: UInt64) {
        self.blockSize = blockSize
        self.blockCount = blockCount
        physicalBlockSize = blockSize
        discardGranularity = 0
        discardReadsZeroes = false
        optimalTransferSize = 0
        isRotational = false
    }
}

/// What a store is asked to do.
public struct BlockRequest {
    /// The kinds of request.
    public enum Operation: Equatable, Sendable {
        /// Fills the pieces from the medium.
        case read
        /// Writes the pieces; with `isDurable` on the medium before the request ends (FUA).
        case write(isDurable: Bool)
        /// Makes every write that has ended durable. The range does not matter.
        case flush
        /// Frees blocks. Afterwards they read as zeroes where the geometry says so.
        case discard
        /// Writes zeroes; the store may free the blocks when `mayFree`.
        case writeZeroes(mayFree: Bool)
        /// Tells whether the range begins with blocks that take up space, and how many bytes of it
        /// are alike.
        case locate
    }

    public var operation: Operation
    /// Bytes from the start of the medium, a multiple of the block size.
    public var offset: UInt64
    /// Bytes to move, free or clear, a multiple of the block size.
    public var byteCount: Int
    /// The memory that a read fills or a write takes: together `byteCount` bytes.
    public var pieces: IOVectorSlice?

    public init(
        _ operation: Operation, offset: UInt64 = 0, byteCount: Int = 0,
        pieces: IOVectorSlice? = nil
    ) {
        self.operation = operation
        self.offset = offset
        self.byteCount = byteCount
        self.pieces = pieces
    }
}

/// How a request ended.
public enum BlockOutcome: Equatable, Sendable {
    /// All of it was done.
    case done
    /// The answer to `locate`: at least one byte.
    case located(isAllocated: Bool, byteCount: Int)
    /// The medium failed (EIO and its like) after this many good bytes.
    case mediumError(goodByteCount: Int)
    /// No space is left on the file system (ENOSPC, EDQUOT).
    case noSpace
    /// The medium cannot do this (EOPNOTSUPP).
    case unsupported
    /// The range lies outside the medium, which has shrunk.
    case outOfRange
    /// Not now (EAGAIN, limits of the host exhausted): worth trying again.
    case busy
    /// The medium is gone (ENODEV, ENXIO).
    case gone
}
