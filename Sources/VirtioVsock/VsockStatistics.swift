// SPDX-License-Identifier: Apache-2.0

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

    /// Chains that were no packet: no room for a header, or parts in the wrong direction.
    public internal(set) var malformedPackets: UInt64 = 0
    /// Packets that did not come from the guest's own context identifier.
    public internal(set) var foreignPackets: UInt64 = 0
    /// Refusals of packets of no connection.
    public internal(set) var refusals: UInt64 = 0
    /// Connections that were reset because the guest broke the protocol, or closed them.
    public internal(set) var resets: UInt64 = 0
    /// Clients that did not name a port properly, or in time.
    public internal(set) var failedHandshakes: UInt64 = 0
    /// Connections that could not be made on the host's side.
    public internal(set) var failedConnects: UInt64 = 0

    public init() {}
}
