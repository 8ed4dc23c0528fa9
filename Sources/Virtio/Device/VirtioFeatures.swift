// SPDX-License-Identifier: Apache-2.0

/// Feature bits of a device and its transport (virtio 1.3 §2.2, §6).
public struct VirtioFeatures: OptionSet, Hashable, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// One feature by its bit number.
    public static func bit(_ number: Int) -> VirtioFeatures {
        VirtioFeatures(rawValue: 1 << UInt64(number))
    }

    /// VIRTIO_F_NOTIFY_ON_EMPTY, of legacy drivers.
    public static let notifyOnEmpty = bit(24)
    /// VHOST_F_LOG_ALL: guest memory that is written is logged.
    public static let logAll = bit(26)
    /// VIRTIO_F_ANY_LAYOUT, of legacy drivers.
    public static let anyLayout = bit(27)
    /// VIRTIO_F_INDIRECT_DESC.
    public static let indirectDescriptors = bit(28)
    /// VIRTIO_F_EVENT_IDX.
    public static let eventIndex = bit(29)
    /// VHOST_USER_F_PROTOCOL_FEATURES.
    public static let protocolFeatures = bit(30)
    /// VIRTIO_F_VERSION_1.
    public static let version1 = bit(32)
    /// VIRTIO_F_ACCESS_PLATFORM.
    public static let accessPlatform = bit(33)
    /// VIRTIO_F_RING_PACKED.
    public static let ringPacked = bit(34)
    /// VIRTIO_F_IN_ORDER.
    public static let inOrder = bit(35)
    /// VIRTIO_F_ORDER_PLATFORM.
    public static let orderPlatform = bit(36)
}
