// SPDX-License-Identifier: Apache-2.0

import Virtio

/// A number for a ring (vhost-user, "A vring state description").
struct RingValue: Equatable {
    let index: Int
    let number: UInt32
}

/// Where a ring lies, in the front-end's own addresses (vhost-user, "A vring address
/// description").
struct RingAddresses: Equatable {
    /// VHOST_VRING_F_LOG.
    static let logFlag: UInt32 = 0x1

    /// Whether writes to the used ring are to be logged.
    var logsRing: Bool
    /// The descriptor table or ring.
    var descriptorArea: UInt64
    /// The used ring, or the device event suppression structure.
    var deviceArea: UInt64
    /// The available ring, or the driver event suppression structure.
    var driverArea: UInt64
    /// Guest address for the log; means nothing unless `logsRing` (user-mode-linux sends -1).
    var logAddress: UInt64

    /// Whether it is the same ring, logged or not.
    func describesSameRing(as other: RingAddresses) -> Bool {
        descriptorArea == other.descriptorArea && deviceArea == other.deviceArea
            && driverArea == other.driverArea
    }
}

/// Which ring a descriptor is for, and whether there is one.
struct RingDescriptor: Equatable {
    let index: Int
    /// False when the message says that there is none (VHOST_USER_VRING_NOFD_MASK).
    let hasDescriptor: Bool
}

/// A region of guest memory (vhost-user, "Memory region description").
struct RegionDescription: Equatable {
    let region: GuestMemory.Region
    /// Where the region starts in the file that came with it, in bytes.
    let fileOffset: UInt64
}

/// Where the dirty log lies in the file that came with it (vhost-user, "Log description").
struct LogArea: Equatable {
    let byteCount: UInt64
    let offset: UInt64
}

/// A stretch of the configuration space (vhost-user, "Virtio device config space").
struct ConfigurationRange: Equatable {
    let offset: UInt32
    let byteCount: UInt32
    /// Writable fields or migration; front-ends disagree on the numbers, so nothing hangs on it.
    let flags: UInt32
}

/// A request whose form is right: every size and descriptor count has been checked, and every ring
/// index is one of the device's.
enum Request: Equatable {
    case getFeatures
    case setFeatures(VirtioFeatures)
    case setOwner
    case resetOwner
    case setMemoryTable([RegionDescription])
    case setLogBase(LogArea)
    case setRingSize(RingValue)
    case setRingAddresses(index: Int, RingAddresses)
    case setRingBase(RingValue)
    case getRingBase(index: Int)
    case setRingKick(RingDescriptor)
    case setRingCall(RingDescriptor)
    case setRingError(RingDescriptor)
    case getProtocolFeatures
    case setProtocolFeatures(ProtocolFeatures)
    case getQueueCount
    case setRingEnable(index: Int, Bool)
    case setBackEndChannel
    case getConfiguration(ConfigurationRange)
    case setConfiguration(ConfigurationRange, [UInt8])
    case resetDevice
    case getMemorySlotCount
    case addMemoryRegion(RegionDescription)
    case removeMemoryRegion(RegionDescription)
}
