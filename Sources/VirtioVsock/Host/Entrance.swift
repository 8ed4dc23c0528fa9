// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// A socket on the host where clients connect.
struct Entrance {
    let listener: UnixListener
    /// Its place in the event loop; nil while it is not looked at.
    var registration: Registration?
    /// Whether clients exchange bytes or messages.
    let type: PacketType
    /// Who connects there.
    let purpose: Purpose

    /// Who connects, and how the guest's port is known.
    enum Purpose: BitwiseCopyable, Equatable {
        /// Programs that name the port in a line.
        case clients
        /// Programs that are all connected to one port.
        case port(VsockPort)
        /// Services of other guests, which name both addresses in a line.
        case siblings
    }

    init(listener: UnixListener, type: PacketType, purpose: Purpose) {
        self.listener = listener
        self.type = type
        self.purpose = purpose
    }

    /// The tag of an entrance in the event loop: negative, since connections have the numbers of
    /// their slots.
    static func tag(_ index: Int) -> Int { -1 - index }
}

extension PacketType {
    /// The kind of Unix socket that carries this type.
    var socketKind: SocketKind {
        switch self {
        case .stream: .stream
        case .sequencedPacket: .sequencedPacket
        }
    }
}
