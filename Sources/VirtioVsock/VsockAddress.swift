// SPDX-License-Identifier: Apache-2.0

/// A port of an AF_VSOCK address.
public struct VsockPort: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
    /// VMADDR_PORT_ANY: no port at all.
    public static let any = VsockPort(rawValue: 0xffff_ffff)

    public let rawValue: UInt32

    @inline(__always)
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }
}

/// A context identifier: who an AF_VSOCK address belongs to (virtio 1.3 §5.10.4).
public struct ContextID: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
    /// VMADDR_CID_HOST: the host.
    public static let host = ContextID(rawValue: 2)

    public let rawValue: UInt32

    @inline(__always)
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// Whether a guest may have this identifier: 0, 1, 2 and 0xffffffff are reserved (virtio 1.3
    /// §5.10.4).
    public var isUsableByGuest: Bool {
        rawValue > ContextID.host.rawValue && rawValue != 0xffff_ffff
    }
}

/// What tells one connection of a guest from another: the other side's address and the guest's
/// port.
struct ConnectionKey: Hashable, BitwiseCopyable {
    /// The other side's context: the host, or a sibling guest.
    var peer = ContextID.host
    /// The other side's port.
    var peerPort = VsockPort(rawValue: 0)
    /// The guest's port.
    var guestPort = VsockPort(rawValue: 0)

    /// A hash that a guest cannot aim: the seed is this process's own.
    @inline(__always)
    func hash(seed: UInt64) -> UInt64 {
        let ports = UInt64(peerPort.rawValue) << 32 | UInt64(guestPort.rawValue)
        let (high, low) = (ports ^ seed).multipliedFullWidth(
            by: 0x9e37_79b9_7f4a_7c15 ^ UInt64(peer.rawValue) &<< 1)
        return high ^ low
    }
}
