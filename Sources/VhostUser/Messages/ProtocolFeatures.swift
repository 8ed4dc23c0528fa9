// SPDX-License-Identifier: Apache-2.0

/// What the two sides of the socket can do beyond the basic protocol (vhost-user, "Protocol
/// features").
public struct ProtocolFeatures: OptionSet, Hashable, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// One feature by its bit number.
    public static func bit(_ number: Int) -> ProtocolFeatures {
        ProtocolFeatures(rawValue: 1 << UInt64(number))
    }

    /// VHOST_USER_PROTOCOL_F_MQ.
    public static let multiqueue = bit(0)
    /// VHOST_USER_PROTOCOL_F_LOG_SHMFD.
    public static let sharedLog = bit(1)
    /// VHOST_USER_PROTOCOL_F_REPLY_ACK.
    public static let replyAcknowledgement = bit(3)
    /// VHOST_USER_PROTOCOL_F_BACKEND_REQ.
    public static let backEndRequests = bit(5)
    /// VHOST_USER_PROTOCOL_F_CONFIG.
    public static let configuration = bit(9)
    /// VHOST_USER_PROTOCOL_F_RESET_DEVICE.
    public static let resetDevice = bit(13)
    /// VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS.
    public static let memorySlots = bit(15)

    /// What this back-end implements, and so all that it ever offers: QEMU takes up every bit it
    /// is offered, whether it knows it or not.
    public static let implemented: ProtocolFeatures = [
        .multiqueue, .sharedLog, .replyAcknowledgement, .backEndRequests, .configuration,
        .resetDevice, .memorySlots,
    ]
}
