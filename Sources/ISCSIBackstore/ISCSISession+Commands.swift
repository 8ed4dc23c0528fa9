// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging

/// Commands, from their submission to their end.
extension ISCSISession {
    /// Times that a command may break the connection before it is not sent any more.
    private static let failureLimit = 3

    /// Queues a command; it goes to the target at the end of this turn of the loop, or when there
    /// is a session.
    ///
    /// It ends in exactly one call of the owner.
    public func submit(_ command: ISCSICommand) {
        var command = command
        command.sequence = flow.value.nextSequence
        flow.value.nextSequence &+= 1
        flow.value.pending.append(command)
        if phase == .up || hasGivenUp || phase == .closed { loop.deferWork(self) }
    }

    /// Hands the library what waits, as far as the target's window is open.
    ///
    /// - Returns: false when the library did not take a command: the session is lost, and the
    ///   connection gone.
    func issuePending(to connection: LibraryConnection) -> Bool {
        guard !flow.value.pending.isEmpty, management == nil else { return true }
        flow.value.lastCommand = loop.now
        while connection.slots.usedCount < flow.value.inFlightLimit,
            let command = flow.value.pending.popFirst()
        {
            if !connection.issue(command, lun: lunField) {
                flow.value.pending.prepend([command])
                loseSession(.connectionLost(reason: connection.errorText))
                return false
            }
            flow.value.isUsedSinceLogin = true
        }
        return true
    }

    /// Takes no more from the queue than the target's window lets through: what waits here can
    /// still be taken back.
    func heedWindow(of connection: LibraryConnection) {
        guard connection.isWindowClosed else { return }
        flow.value.inFlightLimit = max(1, connection.slots.usedCount - connection.queuedCount)
    }

    /// Tells the owner how a command ended.
    func tell(_ command: ISCSICommand, _ outcome: ISCSIOutcome, data: RawSpan = RawSpan()) {
        if !flow.value.abortedTokens.isEmpty { flow.value.abortedTokens.remove(command.token) }
        owner?.commandEnded(token: command.token, outcome, data: data)
    }

    // MARK: Without a session

    /// The connection is broken: what was under way waits for the next, where it may be repeated.
    func loseSession(_ error: ISCSIError, isWarning: Bool = true) {
        let unfinished = bury()
        phase = .backingOff
        downSince = loop.now
        lastError = error
        loggedReasons = [error.description]
        let metadata: Logger.Metadata = [
            "reason": "\(error.description)", "under-way": "\(unfinished.count)",
        ]
        log.log(level: isWarning ? .warning : .info, "session down", metadata: metadata)
        startReplacementTimer()
        owner?.sessionDown(self)
        requeue(unfinished)
        flow.value.abortedTokens = []
        attempt.failureCount = 0
        setTimer(.phase, after: .zero)
    }

    /// Puts commands that the target has forgotten back to the front, in their order; the owner
    /// decides about those that must not be done twice.
    func requeue(_ commands: [ISCSICommand]) {
        let isBlockDevice = unit?.isBlockDevice ?? false
        var repeated: [ISCSICommand] = []
        for command in commands {
            if flow.value.abortedTokens.contains(command.token) {
                tell(command, .aborted)
            } else if command.failureCount >= Self.failureLimit {
                tell(command, .refused)
            } else if command.mayBeRepeated(isBlockDevice: isBlockDevice) {
                repeated.append(command)
            } else {
                tell(command, .nexusLost)
            }
        }
        flow.value.pending.prepend(repeated)
    }

    func startReplacementTimer() {
        if timers[.replacement] == nil, !hasGivenUp {
            setTimer(.replacement, after: configuration.timeouts.replacement)
        }
    }

    /// The session has stayed away for too long: whoever waits is told, so that another path to
    /// the disk may be taken.
    func giveUp() {
        guard phase != .up else { return }
        hasGivenUp = true
        log.error(
            "no session within the replacement timeout; commands fail until there is one",
            metadata: [
                "timeout": "\(configuration.timeouts.replacement)",
                "reason": "\(lastError?.description ?? "")",
                "waiting": "\(flow.value.pending.count)",
            ])
        failPending()
    }

    func failPending() {
        for command in flow.value.pending.takeAll() { tell(command, .transportFailed) }
    }

    // MARK: A new nexus

    /// Logs in anew, so that the target forgets what belongs to the nexus: its initiator has
    /// started anew.
    ///
    /// Nothing happens when no command has passed since the last login.
    public func reinstate() {
        guard phase == .up, flow.value.isUsedSinceLogin else { return }
        isReinstatementWanted = true
        loop.deferWork(self)
    }

    func reinstateNow() {
        isReinstatementWanted = false
        guard phase == .up else { return }
        isResetWanted = false
        connection?.logOut()
        loseSession(.reinstated, isWarning: false)
    }
}

extension ISCSISession: LibraryConnectionOwner {
    func commandEnded(
        _ command: ISCSICommand, status: Int32, _ residual: ISCSIResidual, data: RawSpan
    ) {
        guard command.purpose == .owner else {
            return ownCommandEnded(command.purpose, status: status, data: data)
        }
        if flow.value.inFlightLimit < configuration.maximumInFlight {
            flow.value.inFlightLimit += 1
        }
        if !flow.value.pending.isEmpty { loop.deferWork(self) }
        tell(
            command, .answered(status: UInt8(truncatingIfNeeded: status), residual), data: data)
    }
}
