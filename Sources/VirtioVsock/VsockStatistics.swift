// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// What a vsock device has done since it was made.
public struct VsockStatistics: Sendable, Equatable {
    /// Packets taken from the guest, whatever they were.
    public internal(set) var packetsFromGuest: UInt64 = 0
    /// Bytes of payload for the host.
    public internal(set) var bytesFromGuest: UInt64 = 0
    /// Packets sent to the guest.
    public internal(set) var packetsToGuest: UInt64 = 0
    /// Bytes of payload for the guest.
    public internal(set) var bytesToGuest: UInt64 = 0

    /// Connections that the guest asked for.
    public internal(set) var requestsFromGuest: UInt64 = 0
    /// Connections that clients on the host asked for.
    public internal(set) var requestsToGuest: UInt64 = 0
    /// Times that a connection had bytes for the guest and no credit.
    public internal(set) var creditStalls: UInt64 = 0
    /// Times that there was something for the guest and no receive buffer.
    public internal(set) var receiveBufferStalls: UInt64 = 0

    /// Times that a stream to the guest was left to gather for a moment.
    public internal(set) var rests: UInt64 = 0

    /// Chains that were no packet: no room for a header, or parts in the wrong direction.
    public internal(set) var malformedPackets: UInt64 = 0
    /// Packets that did not come from the guest's own context identifier.
    public internal(set) var foreignPackets: UInt64 = 0
    /// Refusals of packets of no connection.
    public internal(set) var refusals: UInt64 = 0
    /// Connections that were reset because the guest broke the protocol, or closed them, or because
    /// a message of the host would never fit.
    public internal(set) var resets: UInt64 = 0
    /// Those of them where the guest broke the protocol.
    public internal(set) var violations: UInt64 = 0
    /// Connections that the rules for ports forbid.
    public internal(set) var forbiddenConnects: UInt64 = 0
    /// Times that the driver was told that its connections are gone.
    public internal(set) var transportResets: UInt64 = 0
    /// Clients that did not name a port properly, or in time.
    public internal(set) var failedHandshakes: UInt64 = 0
    /// Connections that could not be made on the host's side.
    public internal(set) var failedConnects: UInt64 = 0
    /// Packets that are missing in the capture, because its file was too slow.
    public internal(set) var uncapturedPackets: UInt64 = 0

    public init() {}
}

/// What has passed over one connection.
public struct VsockTraffic: Sendable, Equatable {
    /// Packets from the guest, whatever they were.
    public internal(set) var packetsFromGuest: UInt64 = 0
    /// Bytes of payload from the guest.
    public internal(set) var bytesFromGuest: UInt64 = 0
    /// Packets to the guest.
    public internal(set) var packetsToGuest: UInt64 = 0
    /// Bytes of payload to the guest.
    public internal(set) var bytesToGuest: UInt64 = 0
    /// Times that there were bytes for the guest and no credit.
    public internal(set) var creditStalls: UInt64 = 0

    public init() {}
}

/// One connection as it stands.
public struct VsockConnectionStatistics: Sendable, Equatable {
    /// Whom the guest talks with: the host, or a sibling.
    public let peer: ContextID
    public let peerPort: VsockPort
    public let guestPort: VsockPort
    /// Whether messages are exchanged, and not bytes.
    public let carriesMessages: Bool
    /// Bytes of the guest that the host has not taken yet.
    public let waitingByteCount: UInt32
    /// Bytes that the guest grants now.
    public let guestCredit: Int
    public let traffic: VsockTraffic
}

extension Multiplexer {
    /// Every connection that the guest knows of.
    var connectionStatistics: [VsockConnectionStatistics] {
        table.indices.compactMap { slot in
            let connection = table.slots[slot].connection
            switch connection.phase {
            case .free, .handshaking, .lingering: return nil
            case .connectingToHost, .connectingToGuest, .established, .closing, .resetting: break
            }
            return VsockConnectionStatistics(
                peer: connection.key.peer, peerPort: connection.key.peerPort,
                guestPort: connection.key.guestPort,
                carriesMessages: connection.type == .sequencedPacket,
                waitingByteCount: connection.hostbound.held,
                guestCredit: connection.guestbound.available, traffic: table.slots[slot].traffic)
        }
    }
}
