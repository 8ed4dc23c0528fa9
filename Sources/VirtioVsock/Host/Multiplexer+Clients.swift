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
    private static let acceptsPerTurn = 64
    /// How long the listener is not looked at after the process ran out of descriptors.
    private static let acceptPause = Duration.milliseconds(100)

    // MARK: Accepting

    /// Starts to listen for clients.
    ///
    /// - Parameters:
    ///   - path: of the socket.
    ///   - type: whether clients exchange bytes or messages.
    ///   - purpose: who connects there.
    /// - Throws: why the path cannot be listened at.
    func listen(
        at path: String, type: PacketType, purpose: Entrance.Purpose
    ) throws(VsockError) {
        let made = try makeListener(at: path, type: type)
        var entrance = Entrance(listener: made, type: type, purpose: purpose)
        do {
            entrance.registration = try loop.add(
                made.descriptorNumber, interest: .readable, handler: self,
                tag: Entrance.tag(entrances.count))
        } catch {
            throw .eventLoop(path: path, reason: "\(error)")
        }
        entrances.append(entrance)
    }

    /// Takes the clients that wait.
    func acceptClients(_ index: Int) {
        let entrance = entrances[index]
        for _ in 0..<Self.acceptsPerTurn {
            do {
                guard let socket = try entrance.listener.accept() else { return }
                admit(socket, entrance)
            } catch {
                pauseAccepting(error)
                return
            }
        }
    }

    /// A listener stays readable while there are no descriptors left: none is looked at for a
    /// while, so that nothing spins.
    private func pauseAccepting(_ error: Errno) {
        if !hasReportedAccept {
            log.warning("clients cannot be accepted", metadata: ["reason": "\(error)"])
            hasReportedAccept = true
        }
        stopAccepting()
        loop.setTimer(
            after: Self.acceptPause, handler: self, tag: TimerTag.acceptAgain.rawValue)
    }

    private func stopAccepting() {
        for index in entrances.indices {
            if let registration = entrances[index].registration { loop.remove(registration) }
            entrances[index].registration = nil
        }
    }

    /// Makes no more connections, or makes them again.
    ///
    /// The guest's requests are refused meanwhile, and clients wait in the backlogs of their sockets. A
    /// client that was let in before waits as for a guest that is not there, if it may, and is refused
    /// if not.
    func setDraining(_ isDraining: Bool) {
        self.isDraining = isDraining
        if isDraining { stopAccepting() } else { resumeAccepting() }
    }

    func resumeAccepting() {
        if isDraining { return }
        for index in entrances.indices where entrances[index].registration == nil {
            do {
                entrances[index].registration = try loop.add(
                    entrances[index].listener.descriptorNumber, interest: .readable,
                    handler: self, tag: Entrance.tag(index))
            } catch {
                pauseAccepting(error)
                return
            }
        }
    }

    private func admit(_ socket: consuming OwnedDescriptor, _ entrance: Entrance) {
        hasReportedAccept = false
        if table.waitingCount(.handshake) >= options.handshakeLimit,
            let oldest = table.firstWaiting(.handshake)
        {
            counters.value.failedHandshakes &+= 1
            release(oldest)
        }
        guard let slot = table.allocate() else { return }
        table.slots[slot].connection.phase = .handshaking
        table.slots[slot].handshake = HandshakeParser()
        table.slots[slot].clientType = entrance.type
        table.slots[slot].purpose = entrance.purpose
        table.slots[slot].askedAt = loop.now
        wait(slot, .handshake)
        do {
            try table.slots[slot].host.open(socket, loop: loop, handler: self, tag: slot)
            table.slots[slot].host.isSequenced = entrance.type == .sequencedPacket
        } catch {
            release(slot)
            return
        }
        greet(slot)
    }

    /// Goes on with a client that has not named a port yet.
    private func greet(_ slot: Int) {
        switch table.slots[slot].purpose {
        case .clients: readHandshake(slot)
        case .port(let port): connectToGuest(slot, port)
        case .siblings: readIntroduction(slot)
        }
    }

    /// A client that has no connection yet has said something, or gone.
    func handshakeReady(_ slot: Int, _ readiness: Readiness) {
        guard table.slots[slot].patience == .guest else {
            greet(slot)
            return
        }
        if readiness.contains(.hangUp), !table.slots[slot].host.hasWaitingBytes { release(slot) }
    }

    // MARK: The line

    /// Goes on with a client's line, as far as it has come.
    private func readHandshake(_ slot: Int) {
        var parser = table.slots[slot].handshake
        do {
            switch try table.slots[slot].host.readHandshake(&parser) {
            case .incomplete:
                table.slots[slot].handshake = parser
            case .malformed:
                counters.value.failedHandshakes &+= 1
                release(slot)
            case .port(let port, _):
                connectToGuest(slot, port)
            }
        } catch {
            counters.value.failedHandshakes &+= 1
            release(slot)
        }
    }

    /// Asks the guest for a client's connection.
    ///
    /// - Parameters:
    ///   - slot: of the client.
    ///   - guestPort: what it wants.
    ///   - siblingKey: the address of a sibling guest that asks; nil for a program on the host.
    func connectToGuest(
        _ slot: Int, _ guestPort: VsockPort, from siblingKey: ConnectionKey? = nil
    ) {
        table.removeWaiting(slot)
        table.slots[slot].wantedPort = guestPort
        let isServed = table.slots[slot].clientType == .stream || carriesMessages
        guard options.ports.permit(.guest, guestPort) else {
            counters.value.forbiddenConnects &+= 1
            release(slot)
            return
        }
        // Siblings leave half of the connections to the host and to the guest itself.
        let limit =
            siblingKey == nil ? options.connectionLimit : max(1, options.connectionLimit / 2)
        guard hasDriver, isServed, !isDraining, connectionCount <= limit,
            let key = siblingKey ?? unusedKey(guestPort), table.find(key) == nil
        else {
            if siblingKey != nil || !waitForGuest(slot) { release(slot) }
            return
        }
        counters.value.requestsToGuest &+= 1
        table.slots[slot].connection = Connection(
            key: key, type: table.slots[slot].clientType, allocation: options.bufferByteCount)
        beginMessages(slot)
        table.slots[slot].connection.beginConnectingToGuest(key: key)
        table.slots[slot].expectedBuffers = 1
        table.slots[slot].traffic = VsockTraffic()
        table.slots[slot].pace = Pace()
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
        answerClient(slot)
        // Its bytes, and their end, may have come before there was a connection to note it in.
        table.slots[slot].connection.hostReadable(isEnding: true)
        refresh(slot)
    }

    private func answerClient(_ slot: Int) {
        guard let line = answer(slot) else { return }
        if !table.slots[slot].host.deliverOwn(line.span, loop: loop) {
            // A client that reads no answer may still have something to say.
            table.slots[slot].connection.hostShutDown(.receive)
        }
    }

    /// What a client reads when the guest has accepted; nil for nothing.
    private func answer(_ slot: Int) -> [UInt8]? {
        switch table.slots[slot].purpose {
        case .clients: Array("OK \(table.slots[slot].connection.key.peerPort.rawValue)\n".utf8)
        case .siblings: Array("OK\n".utf8)
        case .port: nil
        }
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
