// SPDX-License-Identifier: Apache-2.0

/// All that has to be known of a queue before it can start; from the wire, unchecked.
public struct VirtqueueConfiguration: Equatable, Sendable {
    /// Entries: split a power of two, packed any, at most 32768.
    public var size: Int
    /// The descriptor table (split) or descriptor ring (packed).
    public var descriptorArea: GuestAddress
    /// The available ring (split) or driver event suppression structure (packed).
    public var driverArea: GuestAddress
    /// The used ring (split) or device event suppression structure (packed).
    public var deviceArea: GuestAddress
    /// What the driver has negotiated: decides the ring format, indirect descriptors, event index.
    public var features: VirtioFeatures
    /// Where to go on, as SET_VRING_BASE gives it (vhost-user, "Ring states"): split, the next
    /// available index; packed, available index, wrap counter, used index, wrap counter.
    public var base: UInt32
    /// Whether writes to the ring itself are recorded in the dirty log.
    public var logsRing = false

    public init(
        size: Int, descriptorArea: GuestAddress, driverArea: GuestAddress,
        deviceArea: GuestAddress, features: VirtioFeatures, base: UInt32
    ) {
        self.size = size
        self.descriptorArea = descriptorArea
        self.driverArea = driverArea
        self.deviceArea = deviceArea
        self.features = features
        self.base = base
    }
}
