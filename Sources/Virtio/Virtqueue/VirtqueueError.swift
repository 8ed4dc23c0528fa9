// SPDX-License-Identifier: Apache-2.0

/// What a driver (or a front-end) did wrong with a queue.
///
/// The queue is broken until it is reset.
public enum VirtqueueError: Error, Equatable, Sendable {
    /// One of the three parts that a ring lies in.
    public enum Area: String, Equatable, Sendable {
        /// The descriptor table (split) or descriptor ring (packed).
        case descriptor
        /// The available ring (split) or driver event suppression structure (packed).
        case driver
        /// The used ring (split) or device event suppression structure (packed).
        case device
    }

    // The configuration

    /// Not a legal number of entries (virtio 1.3 §2.7, §2.8).
    case illegalSize(Int)
    /// A part of the ring is not aligned as it has to be (virtio 1.3 §2.7, §2.8.10.1).
    case misalignedArea(Area, GuestAddress, alignment: Int)
    /// A part of the ring does not lie in one region of guest memory.
    case areaOutsideMemory(Area, GuestAddress, byteCount: Int)
    /// A packed ring cannot go on from here.
    case baseOutOfRange(index: Int, size: Int)

    // The driver

    /// More buffers became available at once than the ring holds.
    case availableIndexJump(from: UInt16, to: UInt16, size: Int)
    /// The available ring names a descriptor that does not exist.
    case headOutOfRange(index: UInt16, size: Int)
    /// A chain goes on at a descriptor that does not exist.
    case nextOutOfRange(index: UInt16, limit: Int)
    /// A chain has more descriptors than there are, so it loops (virtio 1.3 §2.7.5.2).
    case chainTooLong(limit: Int)
    /// A device-readable descriptor follows a device-writable one (virtio 1.3 §2.7.4.2).
    case readableAfterWritable(id: UInt16)
    /// A buffer is longer than 2^32 bytes (virtio 1.3 §2.7.5.2).
    case bufferTooLong(byteCount: UInt64)
    /// A buffer was made available again before it was used.
    case alreadyTaken(id: UInt16)
    /// An indirect descriptor without VIRTIO_F_INDIRECT_DESC.
    case indirectNotNegotiated
    /// An indirect descriptor with a next one (virtio 1.3 §2.7.5.3.1).
    case indirectWithNext
    /// An indirect descriptor in an indirect table (virtio 1.3 §2.7.5.3.1).
    case nestedIndirect
    /// An indirect table that is empty, no multiple of 16 bytes, or too long.
    case indirectTableLength(byteCount: UInt32, limit: Int)
    /// An indirect table outside the memory that the front-end shares.
    case indirectTableOutsideMemory(GuestAddress, byteCount: UInt32)
}

extension VirtqueueError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .illegalSize(let size):
            "a ring of \(size) entries is not legal"
        case .misalignedArea(let area, let address, let alignment):
            "the \(area.rawValue) area at \(address) is not aligned to \(alignment) bytes"
        case .areaOutsideMemory(let area, let address, let byteCount):
            "the \(area.rawValue) area at \(address) of \(byteCount) bytes does not lie in one "
                + "region of shared memory"
        case .baseOutOfRange(let index, let size):
            "a ring of \(size) entries cannot go on at entry \(index)"
        default:
            driverFault
        }
    }

    private var driverFault: String {
        switch self {
        case .availableIndexJump(let old, let new, let size):
            "the available index went from \(old) to \(new) in a ring of \(size) entries"
        case .headOutOfRange(let index, let size):
            "the available ring names descriptor \(index) of \(size)"
        case .nextOutOfRange(let index, let limit):
            "a chain goes on at descriptor \(index) of \(limit)"
        case .chainTooLong(let limit):
            "a chain has more than \(limit) descriptors, or loops"
        case .readableAfterWritable(let id):
            "in buffer \(id) a readable descriptor follows a writable one"
        case .bufferTooLong(let byteCount):
            "a buffer of \(byteCount) bytes is longer than 2^32"
        case .alreadyTaken(let id):
            "buffer \(id) was made available again before it was used"
        default:
            indirectFault
        }
    }

    private var indirectFault: String {
        switch self {
        case .indirectWithNext:
            "an indirect descriptor has a next one"
        case .nestedIndirect:
            "an indirect table refers to another one"
        case .indirectTableLength(let byteCount, let limit):
            "an indirect table of \(byteCount) bytes is not 1 to \(limit) descriptors of 16 bytes"
        case .indirectTableOutsideMemory(let address, let byteCount):
            "the indirect table at \(address) of \(byteCount) bytes lies outside the shared memory"
        default:
            "an indirect descriptor was used, which was not negotiated"
        }
    }
}
