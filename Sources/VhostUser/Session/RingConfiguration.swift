// SPDX-License-Identifier: Apache-2.0

import Virtio

/// What the front-end has said of a ring so far.
struct RingConfiguration {
    /// Entries a ring may have (virtio 1.3 §2.7, §2.8.10.1).
    static let maximumSize: UInt32 = 32768

    /// SET_VRING_NUM; nil before it came.
    var size: Int?
    /// SET_VRING_ADDR; nil before it came.
    var addresses: RingAddresses?
    /// SET_VRING_BASE, or where the ring stopped; nil before either.
    var base: UInt32?

    /// Where a ring starts whose driver has just made it (vhost-user, "Ring states"): packed, both
    /// wrap counters are 1.
    static func freshBase(_ features: VirtioFeatures) -> UInt32 {
        features.contains(.ringPacked) ? 0x8000_8000 : 0
    }

    /// A base in the form that the ring takes it.
    ///
    /// Split: an index of 16 bits, whatever old front-ends leave above it. Packed: the used half is
    /// the available half, because a ring is drained when it stops, and some front-ends keep only
    /// the lower half.
    static func normalized(_ base: UInt32, _ features: VirtioFeatures) -> UInt32 {
        let available = base & 0xffff
        return features.contains(.ringPacked) ? available << 16 | available : available
    }

    /// Where the ring would start.
    func startBase(_ features: VirtioFeatures) -> UInt32 {
        guard let base, base != 0 || !comesFromUserModeLinux else {
            return Self.freshBase(features)
        }
        return Self.normalized(base, features)
    }

    /// Whether the addresses are user-mode-linux's, which alone has a log address of -1.
    ///
    /// It sends a base of 0 for a new ring even if that is a packed one.
    private var comesFromUserModeLinux: Bool { addresses?.logAddress == .max }

    /// Whether the ring would start as its driver made it.
    func isFresh(_ features: VirtioFeatures) -> Bool {
        startBase(features) == Self.freshBase(features)
    }

    /// Whether a base can be one of a ring of this size.
    static func isInRange(_ base: UInt32, size: Int, _ features: VirtioFeatures) -> Bool {
        !features.contains(.ringPacked) || Int(base & 0x7fff) < size
    }

    /// Whether the addresses are multiples of what the virtio specification asks for (virtio 1.3
    /// §2.7, §2.8.10.1).
    static func isAligned(_ addresses: RingAddresses, _ features: VirtioFeatures) -> Bool {
        let isPacked = features.contains(.ringPacked)
        return addresses.descriptorArea % 16 == 0
            && addresses.driverArea % (isPacked ? 4 : 2) == 0
            && addresses.deviceArea % 4 == 0
    }

    /// Bytes of the three areas of a ring.
    struct AreaByteCounts: Equatable {
        let descriptorArea: UInt64
        let driverArea: UInt64
        let deviceArea: UInt64

        init(size: Int, _ features: VirtioFeatures) {
            let size = UInt64(size)
            let event: UInt64 = features.contains(.eventIndex) ? 2 : 0
            descriptorArea = 16 * size
            driverArea = features.contains(.ringPacked) ? 4 : 4 + 2 * size + event
            deviceArea = features.contains(.ringPacked) ? 4 : 4 + 8 * size + event
        }
    }

    /// All that a queue needs, in guest addresses; nil while a part is missing or lies outside
    /// the memory.
    func queueConfiguration(
        _ features: VirtioFeatures, memory: GuestMemory
    ) -> VirtqueueConfiguration? {
        guard let size, let addresses else { return nil }
        let byteCounts = AreaByteCounts(size: size, features)
        guard
            let descriptorArea = memory.guestAddress(
                ofFrontEndAddress: addresses.descriptorArea,
                byteCount: byteCounts.descriptorArea),
            let driverArea = memory.guestAddress(
                ofFrontEndAddress: addresses.driverArea, byteCount: byteCounts.driverArea),
            let deviceArea = memory.guestAddress(
                ofFrontEndAddress: addresses.deviceArea, byteCount: byteCounts.deviceArea)
        else { return nil }
        var configuration = VirtqueueConfiguration(
            size: size, descriptorArea: descriptorArea, driverArea: driverArea,
            deviceArea: deviceArea, features: features, base: startBase(features))
        configuration.logsRing = addresses.logsRing
        return configuration
    }
}
