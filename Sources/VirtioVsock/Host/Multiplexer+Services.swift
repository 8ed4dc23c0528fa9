// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SystemPackage

// Services on the host, which the guest connects to: the guest's port 5000 of the host is the
// listener at `<path>_5000`, or where a map leads the port.
extension Multiplexer {
    /// The guest asks for a connection.
    ///
    /// - Returns: false when there is no room for one.
    func open(_ header: VsockHeader, _ type: PacketType) -> Bool {
        counters.value.requestsFromGuest &+= 1
        let key = key(of: header)
        guard options.ports.permit(.host, key.peerPort) else {
            counters.value.forbiddenConnects &+= 1
            return false
        }
        guard !isDraining, connectionCount < options.connectionLimit,
            let slot = table.allocate()
        else { return false }
        table.slots[slot].connection = Connection(
            key: key, type: type, allocation: options.bufferByteCount)
        table.slots[slot].connection.open(with: header)
        table.slots[slot].connection.phase = .connectingToHost
        table.slots[slot].expectedBuffers = 1
        table.slots[slot].traffic = VsockTraffic()
        table.slots[slot].pace = Pace()
        table.slots[slot].askedAt = loop.now
        table.insert(slot)
        connectToHost(slot)
        return true
    }

    /// The name of the listener of a port.
    func servicePath(_ port: VsockPort) -> String {
        guard let template = options.service(at: port) else {
            return "\(options.path)_\(port.rawValue)"
        }
        return template.path(guest: guest, port: port)
    }

    /// Prepares a socket that keeps messages whole.
    func beginMessages(_ slot: Int) {
        if table.slots[slot].connection.type == .stream { return }
        let limit = table.slots[slot].host.beginMessages()
        table.slots[slot].connection.limitCredit(to: limit)
    }

    private func dial(_ slot: Int) throws(Errno) -> OwnedDescriptor {
        let key = table.slots[slot].connection.key
        let type = table.slots[slot].connection.type
        if key.peer != .host { return try dialSibling(key, type) }
        return try dialService(key.peerPort, type)
    }

    /// Tries to connect to the listener of the port.
    ///
    /// A listener whose backlog is full is tried again for a while: there is no event for its end.
    func connectToHost(_ slot: Int) {
        let port = table.slots[slot].connection.key.peerPort.rawValue
        do throws(Errno) {
            let socket = try dial(slot)
            try table.slots[slot].host.open(socket, loop: loop, handler: self, tag: slot)
            beginMessages(slot)
            let key = table.slots[slot].connection.key
            if key.peer != .host {
                try introduce(slot)
            } else if leadsToHostVsock(key) {
                awaitHostVsock(slot)
            } else {
                table.slots[slot].connection.connectedToHost()
            }
        } catch {
            let limit = options.connectTimeout.wholeNanoseconds
            let end = table.slots[slot].askedAt.advanced(byNanoseconds: limit)
            if error == .wouldBlock && loop.now < end {
                wait(slot, .connectRetry)
                return
            }
            log.debug(
                "the guest's connection is refused",
                metadata: ["port": "\(port)", "reason": "\(error)"])
            counters.value.failedConnects &+= 1
            table.slots[slot].connection.reset()
        }
        refresh(slot)
    }
}
