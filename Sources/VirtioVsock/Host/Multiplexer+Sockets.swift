// SPDX-License-Identifier: Apache-2.0

import LinuxIO

// What the host's sockets report, and how either side's end is carried to the other.
extension Multiplexer: EventHandler {
    func descriptorReady(_ readiness: Readiness, tag: Int) {
        if tag < 0 {
            acceptClients(Entrance.tag(tag))
            return
        }
        switch table.slots[tag].connection.phase {
        case .handshaking:
            handshakeReady(tag, readiness)
        case .connectingToHost:
            if table.slots[tag].host.isConnecting { hostVsockReady(tag) } else { siblingReady(tag) }
        case .connectingToGuest:
            clientReady(tag, readiness)
        case .established:
            hostReady(tag, readiness)
        case .resetting, .lingering:
            lingererReady(tag, readiness)
        case .free, .closing:
            break
        }
    }

    /// A client that waits for the guest's answer may leave; what it has sent is delivered all the
    /// same, if there is anything.
    private func clientReady(_ slot: Int, _ readiness: Readiness) {
        guard readiness.contains(.hangUp) else { return }
        if table.slots[slot].host.hasWaitingBytes {
            table.slots[slot].connection.hostShutDown(.receive)
        } else {
            abandon(slot)
        }
    }

    private func hostReady(_ slot: Int, _ readiness: Readiness) {
        if readiness.contains(.writable) { flush(slot) }
        let ends: Readiness = [.peerClosed, .hangUp, .error]
        if !readiness.isDisjoint(with: ends.union(.readable)) {
            table.slots[slot].connection.hostReadable(isEnding: !readiness.isDisjoint(with: ends))
        }
        if readiness.contains(.hangUp) || isVsockWithoutReader(slot, readiness) { hostGone(slot) }
        if table.slots[slot].connection.mayHideEnd { revealEnd(slot) }
        refresh(slot)
    }

    /// Whether an AF_VSOCK socket has closed, which does not hang up; where it can be written to, that
    /// has told.
    private func isVsockWithoutReader(_ slot: Int, _ readiness: Readiness) -> Bool {
        readiness.contains(.peerClosed) && !readiness.contains(.writable)
            && table.slots[slot].host.isVsockWithoutReader
    }

    /// Looks for the end of the host's bytes where there is no credit to read them, and notes it if
    /// nothing is before it: SHUTDOWN needs no credit, and the guest may wait for it before it reads.
    ///
    /// - Returns: whether it is there.
    @discardableResult
    func revealEnd(_ slot: Int) -> Bool {
        do {
            guard try table.slots[slot].host.isAtEnd() else { return false }
            table.slots[slot].connection.hostShutDown(.send)
        } catch {
            // As when it is read: whatever the host had sent has been read.
            hostGone(slot)
            table.slots[slot].connection.hostShutDown(.both)
        }
        return true
    }

    /// Sends what waits for the host's socket.
    private func flush(_ slot: Int) {
        let delivery = table.slots[slot].host.flush(loop: loop)
        account(delivery, slot)
        if !table.slots[slot].host.isWaiting
            && table.slots[slot].connection.guestShutdown.contains(.send)
        {
            table.slots[slot].host.shutDown(.writing)
        }
    }

    /// Nothing flows to the host any more; what it has sent is still to be read.
    func hostGone(_ slot: Int) {
        let forgotten = table.slots[slot].host.discardBacklog(loop: loop)
        table.slots[slot].connection.forwarded(forgotten)
        let isUnwanted = table.slots[slot].connection.guestShutdown.contains(.receive)
        table.slots[slot].connection.hostShutDown(isUnwanted ? .both : .receive)
    }

    // MARK: The guest's end

    /// The guest has closed a half: the host's socket is closed alike, after what was sent before.
    func guestShutDown(_ slot: Int) {
        let halves = table.slots[slot].connection.guestShutdown
        if halves.contains(.receive) { table.slots[slot].host.shutDown(.reading) }
        if halves.contains(.send) && !table.slots[slot].host.isWaiting {
            table.slots[slot].host.shutDown(.writing)
        }
        refresh(slot)
    }

    /// RST is owed to the guest: the host's side ends as soon as it has taken what was sent before.
    func hostboundEnded(_ slot: Int) {
        counters.value.resets &+= 1
        table.removeWaiting(slot)
        if !table.slots[slot].host.isWaiting {
            table.slots[slot].host.close(loop: loop)
        } else {
            table.slots[slot].host.shutDown(.reading)
        }
        refresh(slot)
    }

    /// The guest has no part in the connection any more: its ports are free, and its slot as soon
    /// as the host has taken what was sent before.
    func forgotten(_ slot: Int) {
        if waitAfterRefusal(slot) { return }
        table.remove(slot)
        table.removeReady(slot)
        if !table.slots[slot].host.isWaiting || !table.slots[slot].host.isOpen {
            release(slot)
            return
        }
        table.slots[slot].connection.phase = .lingering
        table.slots[slot].host.shutDown(.reading)
        if table.waitingCount(.linger) >= options.lingerLimit,
            let oldest = table.firstWaiting(.linger)
        {
            release(oldest)
        }
        wait(slot, .linger)
    }

    private func lingererReady(_ slot: Int, _ readiness: Readiness) {
        if readiness.contains(.writable) { _ = table.slots[slot].host.flush(loop: loop) }
        let isOver = readiness.contains(.hangUp) || !table.slots[slot].host.isWaiting
        guard isOver else { return }
        if table.slots[slot].connection.phase == .lingering {
            release(slot)
        } else {
            table.slots[slot].host.close(loop: loop)
        }
    }

    /// Gives a slot back, with its ports and its socket.
    func release(_ slot: Int) {
        table.slots[slot].host.close(loop: loop)
        table.slots[slot].message.removeAll()
        table.remove(slot)
        table.release(slot)
    }
}
