// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SystemPackage

// Clients on the host, who connect to the device's socket and name a port of the guest:
//
//     client: CONNECT 5000\n          device: OK 1025\n       (the host port of the connection)
//
// A client that is refused sees its connection closed without a byte. What a client sends behind
// its line is the first payload of the connection and stays in the socket until the guest has
// accepted. Host ports have at most five digits, since systemd-ssh-proxy reads the answer into nine
// bytes.
extension Multiplexer {
    /// Ports of the host's side that are given to connections of clients.
    static let hostPorts: ClosedRange<UInt32> = 10_000...65_535
    /// The listener's tag in the event loop; connections have the numbers of their slots.
    static let listenerTag = -1
    private static let acceptsPerTurn = 64
    /// How long the listener is not looked at after the process ran out of descriptors.
    private static let acceptPause = Duration.milliseconds(100)

    // MARK: Accepting

    /// Starts to listen for clients.
    func listen(at address: UnixAddress) throws(VsockError) {
        let made: UnixListener
        do {
            made = try UnixListener(address)
        } catch {
            throw .listener(error)
        }
        do {
            listenerRegistration = try loop.add(
                made.descriptorNumber, interest: .readable, handler: self, tag: Self.listenerTag)
        } catch {
            throw .eventLoop(path: address.path, reason: "\(error)")
        }
        listener = made
    }

    /// Takes the clients that wait.
    func acceptClients() {
        guard let listener else { return }
        for _ in 0..<Self.acceptsPerTurn {
            do {
                guard let socket = try listener.accept() else { return }
                admit(socket)
            } catch {
                pauseAccepting(error)
                return
            }
        }
    }

    /// The listener stays readable while there are no descriptors left: it is not looked at for a
    /// while, so that nothing spins.
    private func pauseAccepting(_ error: Errno) {
        log.warning("clients cannot be accepted", metadata: ["reason": "\(error)"])
        if let listenerRegistration { loop.remove(listenerRegistration) }
        listenerRegistration = nil
        loop.setTimer(
            after: Self.acceptPause, handler: self, tag: TimerTag.acceptAgain.rawValue)
    }

    func resumeAccepting() {
        guard let listener, listenerRegistration == nil else { return }
        do {
            listenerRegistration = try loop.add(
                listener.descriptorNumber, interest: .readable, handler: self,
                tag: Self.listenerTag)
        } catch {
            pauseAccepting(error)
        }
    }

    private func admit(_ socket: consuming OwnedDescriptor) {
        if table.waitingCount(.handshake) >= options.handshakeLimit,
            let oldest = table.firstWaiting(.handshake)
        {
            statistics.failedHandshakes &+= 1
            release(oldest)
        }
        guard let slot = table.allocate() else { return }
        table.slots[slot].connection.phase = .handshaking
        table.slots[slot].handshake = HandshakeParser()
        wait(slot, .handshake)
        do {
            try table.slots[slot].host.open(socket, loop: loop, handler: self, tag: slot)
            readHandshake(slot)
        } catch {
            release(slot)
        }
    }

    // MARK: The line

    /// Goes on with a client's line, as far as it has come.
    func readHandshake(_ slot: Int) {
        var parser = table.slots[slot].handshake
        do {
            switch try table.slots[slot].host.readHandshake(&parser) {
            case .incomplete:
                table.slots[slot].handshake = parser
            case .malformed:
                statistics.failedHandshakes &+= 1
                release(slot)
            case .port(let port, _):
                connectToGuest(slot, port)
            }
        } catch {
            statistics.failedHandshakes &+= 1
            release(slot)
        }
    }

    private func connectToGuest(_ slot: Int, _ guestPort: VsockPort) {
        table.removeWaiting(slot)
        guard hasDriver, connectionCount <= options.connectionLimit,
            let key = unusedKey(guestPort)
        else {
            release(slot)
            return
        }
        statistics.requestsToGuest &+= 1
        table.slots[slot].connection = Connection(key: key, allocation: options.bufferByteCount)
        table.slots[slot].connection.beginConnectingToGuest(key: key)
        table.slots[slot].expectedBuffers = 1
        table.insert(slot)
        wait(slot, .response)
        refresh(slot)
    }

    /// Ports that no connection has: a connection keeps its ports until the guest has forgotten
    /// it.
    private func unusedKey(_ guestPort: VsockPort) -> ConnectionKey? {
        for _ in Self.hostPorts {
            lastHostPort =
                lastHostPort == Self.hostPorts.upperBound
                ? Self.hostPorts.lowerBound : lastHostPort + 1
            let key = ConnectionKey(
                peer: .host, peerPort: VsockPort(rawValue: lastHostPort), guestPort: guestPort)
            if table.find(key) == nil { return key }
        }
        return nil
    }

    // MARK: The answer

    /// The guest has accepted: the client is told, then payload flows.
    func clientAccepted(_ slot: Int) {
        table.removeWaiting(slot)
        let port = table.slots[slot].connection.key.peerPort.rawValue
        let line = Array("OK \(port)\n".utf8)
        if !table.slots[slot].host.deliverOwn(line.span, loop: loop) {
            // A client that reads no answer may still have something to say.
            table.slots[slot].connection.hostShutDown(.receive)
        }
        // Its bytes, and their end, may have come before there was a connection to note it in.
        table.slots[slot].connection.hostReadable(isEnding: true)
        refresh(slot)
    }

    /// The client is gone, or the guest has not answered in time.
    func abandon(_ slot: Int) {
        table.slots[slot].host.close(loop: loop)
        if table.slots[slot].connection.pending.contains(.request) {
            // The guest has never heard of it.
            forgotten(slot)
        } else {
            table.removeWaiting(slot)
            table.slots[slot].connection.reset()
            refresh(slot)
        }
    }
}
