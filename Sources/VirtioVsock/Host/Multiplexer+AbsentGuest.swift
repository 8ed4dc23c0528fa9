// SPDX-License-Identifier: Apache-2.0

import LinuxIO

// Clients that wait for a guest that is not there yet, or does not listen yet, when the options say
// so: they are tried again and again until their time is over.
extension Multiplexer {
    /// How long until a guest that is not there is asked again.
    static let guestRetryInterval = Duration.milliseconds(100)

    /// Has a client wait for the guest.
    ///
    /// - Returns: false when it may not wait any longer.
    func waitForGuest(_ slot: Int) -> Bool {
        guard options.waitForGuest > .zero, table.slots[slot].host.isOpen,
            table.waitingCount(.guest) < options.handshakeLimit
        else { return false }
        let limit = options.waitForGuest.wholeNanoseconds
        guard loop.now < table.slots[slot].askedAt.advanced(byNanoseconds: limit) else {
            return false
        }
        table.slots[slot].connection = Connection(allocation: 0)
        table.slots[slot].connection.phase = .handshaking
        wait(slot, .guest)
        return true
    }

    /// The guest has refused a client, or has gone before it answered.
    ///
    /// - Returns: whether the client waits for another try.
    func waitAfterRefusal(_ slot: Int) -> Bool {
        guard table.slots[slot].connection.phase == .connectingToGuest,
            options.waitForGuest > .zero
        else { return false }
        if case .siblings = table.slots[slot].purpose { return false }
        table.remove(slot)
        table.removeReady(slot)
        return waitForGuest(slot)
    }

    /// Asks the guest again.
    func askGuestAgain(_ slot: Int) {
        if !table.slots[slot].host.hasPeer {
            release(slot)
            return
        }
        connectToGuest(slot, table.slots[slot].wantedPort)
    }
}
