// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage

/// Where a port map leads: to a Unix socket, or to an AF_VSOCK socket of the host's own kernel.
enum HostAddress: Equatable, Sendable {
    case unix(UnixAddress)
    case vsock(context: UInt32, port: UInt32)

    /// What the text of an AF_VSOCK address begins with: `vsock:CID:PORT`.
    private static let prefix = "vsock:"

    /// Whether the text is to name an AF_VSOCK socket.
    static func isVsock(_ text: String) -> Bool { text.hasPrefix(prefix) }

    /// Reads a path, or `vsock:CID:PORT`, where the CID may be `any` for a listener.
    init(_ text: String) throws(VsockError) {
        guard Self.isVsock(text) else {
            guard let address = UnixAddress(path: text) else {
                throw .pathTooLong(
                    path: text, byteCount: text.utf8.count, limit: UnixAddress.maximumByteCount)
            }
            self = .unix(address)
            return
        }
        let fields = text.dropFirst(Self.prefix.count)
            .split(separator: ":", omittingEmptySubsequences: false)
        guard fields.count == 2, let port = UInt32(fields[1]),
            let context = fields[0] == "any" ? VsockSocket.anyContext : UInt32(fields[0])
        else { throw .illegalHostAddress(text) }
        self = .vsock(context: context, port: port)
    }
}

/// How the host's AF_VSOCK sockets are made: by the kernel, or by a test.
struct HostVsock: Sendable {
    /// Begins to connect.
    var connect: @Sendable (UInt32, UInt32, SocketKind) throws(Errno) -> OwnedDescriptor
    /// Listens.
    var listen: @Sendable (UInt32, UInt32, SocketKind) throws(Errno) -> OwnedDescriptor

    static let kernel = HostVsock(
        connect: { context, port, kind throws(Errno) in
            try VsockSocket.connect(to: context, port: port, kind: kind)
        },
        listen: { context, port, kind throws(Errno) in
            try VsockSocket.listen(at: context, port: port, kind: kind)
        })
}

// Port maps that lead to AF_VSOCK sockets of the host. A connection there takes its time: until it is
// made, the guest's request waits, as it does for a sibling.
extension Multiplexer {
    /// A listener for a map.
    func makeListener(at path: String, type: PacketType) throws(VsockError) -> UnixListener {
        switch try HostAddress(path) {
        case .unix(let address):
            do {
                return try UnixListener(address, kind: type.socketKind)
            } catch {
                throw .listener(error)
            }
        case .vsock(let context, let port):
            do {
                return UnixListener(
                    taking: try options.hostVsock.listen(context, port, type.socketKind))
            } catch {
                throw .hostVsock(address: path, reason: error)
            }
        }
    }

    /// Connects to where the maps lead, or the port's own path.
    func dialService(_ port: VsockPort, _ type: PacketType) throws(Errno) -> OwnedDescriptor {
        let address: HostAddress
        do {
            address = try HostAddress(servicePath(port))
        } catch {
            throw .fileNameTooLong
        }
        switch address {
        case .unix(let address):
            return try UnixSocket.connect(to: address, kind: type.socketKind)
        case .vsock(let context, let port):
            // Where there is room for a part of a message, Linux sends that, says that there is no room,
            // and would take the whole message again.
            guard type == .stream else { throw .protocolWrongTypeForSocket }
            return try options.hostVsock.connect(context, port, type.socketKind)
        }
    }

    /// Whether a connection of the guest leads to an AF_VSOCK socket of the host.
    func leadsToHostVsock(_ key: ConnectionKey) -> Bool {
        guard key.peer == .host, let service = options.service(at: key.peerPort) else {
            return false
        }
        return HostAddress.isVsock(service.template)
    }

    /// A connection to an AF_VSOCK socket of the host is under way.
    func awaitHostVsock(_ slot: Int) {
        wait(slot, .response)
        table.slots[slot].host.setConnecting(true, loop: loop)
    }

    /// It has been made, or has come to nothing.
    func hostVsockReady(_ slot: Int) {
        do throws(Errno) {
            guard try table.slots[slot].host.hasConnected() else { return }
            table.removeWaiting(slot)
            table.slots[slot].host.setConnecting(false, loop: loop)
            table.slots[slot].connection.connectedToHost()
            table.slots[slot].connection.hostReadable(isEnding: true)
            refresh(slot)
        } catch {
            counters.value.failedConnects &+= 1
            abandon(slot)
        }
    }
}

extension HostSocket {
    /// Whether the connection that was begun has been made.
    func hasConnected() throws(Errno) -> Bool {
        switch descriptor {
        case .none: throw .socketNotConnected
        case .some(let socket): try VsockSocket.isConnected(socket)
        }
    }
}
