// SPDX-License-Identifier: Apache-2.0

import LinuxIO

// Deadlines. All waits of one kind last equally long, so that a list in the order of its beginnings
// is in the order of its deadlines; one timer of the loop serves the earliest of them all.
extension Multiplexer {
    /// How long until a full listener is tried again.
    private static let connectRetryInterval = Duration.milliseconds(5)

    private func duration(of patience: Patience) -> Duration {
        switch patience {
        case .handshake: options.handshakeTimeout
        case .connectRetry: Self.connectRetryInterval
        case .response: options.connectTimeout
        case .guest: Self.guestRetryInterval
        case .closing: options.closeTimeout
        case .linger: options.lingerTimeout
        case .rest: options.rest
        }
    }

    /// Has a connection wait, instead of whatever it was waiting for.
    func wait(_ slot: Int, _ patience: Patience) {
        let nanoseconds = duration(of: patience).wholeNanoseconds
        let deadline = loop.now.advanced(byNanoseconds: nanoseconds)
        table.appendWaiting(slot, patience, until: deadline)
        setPatienceTimer(noLaterThan: deadline)
    }

    private func setPatienceTimer(noLaterThan deadline: Instant) {
        if let timer = patienceTimer {
            if timer.deadline <= deadline { return }
            loop.cancel(timer.token)
        }
        let now = loop.now
        let left = deadline > now ? deadline.nanoseconds - now.nanoseconds : 0
        let token = loop.setTimer(
            after: .nanoseconds(Int64(clamping: left)), handler: self,
            tag: TimerTag.patience.rawValue)
        patienceTimer = (token, deadline)
    }

    /// Deals with every wait that is over.
    func endWaits() {
        let now = loop.now
        for patience in Patience.allCases {
            while let slot = table.firstWaiting(patience), table.slots[slot].deadline <= now {
                table.removeWaiting(slot)
                waitEnded(slot, patience)
            }
        }
        var earliest: Instant?
        for patience in Patience.allCases {
            guard let slot = table.firstWaiting(patience) else { continue }
            let deadline = table.slots[slot].deadline
            earliest = earliest.map { min($0, deadline) } ?? deadline
        }
        if let earliest { setPatienceTimer(noLaterThan: earliest) }
        deadlinePassed()
    }

    private func waitEnded(_ slot: Int, _ patience: Patience) {
        switch patience {
        case .handshake:
            counters.value.failedHandshakes &+= 1
            release(slot)
        case .connectRetry:
            connectToHost(slot)
        case .guest:
            askGuestAgain(slot)
        case .response:
            counters.value.failedConnects &+= 1
            abandon(slot)
        case .closing, .linger:
            release(slot)
        case .rest:
            restEnded(slot)
        }
    }
}
