// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// A place for one connection: its state, its socket, and its places in the table's lists.
struct ConnectionSlot: ~Copyable {
    var connection = Connection(allocation: 0)
    var host = HostSocket()
    var handshake = HandshakeParser()
    /// Whether the client exchanges bytes or messages.
    var clientType = PacketType.stream
    /// Who the client is.
    var purpose = Entrance.Purpose.clients
    /// The port of the guest that the client wants.
    var wantedPort = VsockPort.any
    /// What has passed so far.
    var traffic = VsockTraffic()
    /// The rest of a message for the guest (SEQPACKET).
    var message = ByteQueue()

    /// Receive buffers to offer to the next read of the socket: grows while they are all filled.
    var expectedBuffers = 1

    /// Whether the socket is read by the clock.
    var pace = Pace()

    /// Place in the list of connections that have something for the guest.
    var ready = ListLinks()
    /// Place in the list of connections that wait for the same length of time.
    var waiting = ListLinks()
    /// Which of those lists; nil when there is nothing to wait for.
    var patience: Patience?
    /// When the wait is over.
    var deadline = Instant(nanoseconds: 0)
    /// When the guest asked for a connection that the host's listener has no room for yet, or a
    /// client came.
    var askedAt = Instant(nanoseconds: 0)
}

/// What a connection waits for, and no longer than a fixed time.
enum Patience: Int, CaseIterable {
    /// A client's line.
    case handshake
    /// Room in the backlog of the host's listener, before the next try.
    case connectRetry
    /// The guest's RESPONSE, or that of a sibling's service.
    case response
    /// A guest that is not there, or does not listen, before the next try.
    case guest
    /// The guest's RST, or that it has forgotten the connection by itself.
    case closing
    /// A slow reader on the host.
    case linger
    /// More of a stream that is read by the clock.
    case rest
}

/// Neighbours in a doubly linked list of slots.
struct ListLinks: BitwiseCopyable {
    static let none: Int32 = -1
    var previous = Self.none
    var next = Self.none
    var isLinked = false
}
