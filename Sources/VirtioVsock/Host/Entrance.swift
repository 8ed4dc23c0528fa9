// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// A socket on the host where clients connect.
struct Entrance {
    let listener: UnixListener
    /// Its place in the event loop; nil while it is not looked at.
    var registration: Registration?
    /// Whether clients exchange bytes or messages.
    let type: PacketType
    /// The guest's port that every client is connected to; nil when clients name it.
    let port: VsockPort?

    init(listener: UnixListener, type: PacketType, port: VsockPort?) {
        self.listener = listener
        self.type = type
        self.port = port
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
