// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// Whether the target is still there, and whether it has something to say.
extension ISCSISession {
    func startKeepAlive() {
        lastHeard = loop.now
        flow.value.lastCommand = loop.now
        pingSent = nil
        setTimer(.keepAlive, after: configuration.timeouts.keepAlive)
    }

    /// Looks once an interval.
    ///
    /// A NOP-Out waits for the window like any command, so that a missing answer means nothing as
    /// long as the target says anything at all.
    func keepAlive() {
        guard phase == .up, let connection else { return }
        setTimer(.keepAlive, after: configuration.timeouts.keepAlive)
        let interval = configuration.timeouts.keepAlive
        if let sent = pingSent, lastHeard > sent { pingSent = nil }
        if let sent = pingSent {
            let limit = configuration.timeouts.keepAliveAnswer
            if hasPassed(limit, since: sent) { loseSession(.targetSilent(interval + limit)) }
            return
        }
        if hasPassed(interval, since: lastHeard), !connection.isPingOutstanding {
            ping(connection)
        }
        pollAttentions()
    }

    private func ping(_ connection: LibraryConnection) {
        if connection.ping() {
            pingSent = loop.now
            loop.deferWork(self)
        } else {
            loseSession(.connectionLost(reason: connection.errorText))
        }
    }

    /// Asks an idle unit with TEST UNIT READY whether its capacity or its target's LUNs have
    /// changed: the library ignores the messages by which a target could tell by itself.
    private func pollAttentions() {
        let interval = configuration.timeouts.attentionPoll
        guard !isPollOutstanding, management == nil,
            hasPassed(interval, since: flow.value.lastCommand)
        else {
            return
        }
        flow.value.lastCommand = loop.now
        isPollOutstanding = true
        ask(.attentionPoll)
    }

    private func hasPassed(_ duration: Duration, since start: Instant) -> Bool {
        loop.now >= start.advanced(byNanoseconds: duration.wholeNanoseconds)
    }
}
