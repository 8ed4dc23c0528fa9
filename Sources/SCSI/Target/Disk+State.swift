// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Synchronization

/// What the disk keeps, and shares with other services.
///
/// A change is made to what is kept, not to what this service knows of it, by another thread and
/// under a lock; the command that asked for it ends when the change is safe. Meanwhile others go on.
/// Every command looks first whether somebody has changed what is kept; if so it waits until that
/// was read. So a command that comes after a change, at whatever service, obeys it.
extension Disk {
    /// Takes over what is kept of the disk, and keeps it there from now on.
    ///
    /// To be called before the disk is attached.
    public func keepState(_ opened: OpenedDiskState, with keeper: any DiskStateKeeper) {
        stateKeeper = keeper
        state.value.changes = keeper.changes
        state.value.seenChanges = opened.changes
        kept = opened.state
        // What was said before this service began is told by the power-on unit attention.
        seenMessage = kept.lastMessage
        state.value.modes = savedModes ?? DiskModes()
    }

    /// Lets the keeper go.
    func forgetKeeper() {
        state.value.changes = .constant
        state.value.seenChanges = 0
        stateKeeper = nil
        changingCommands = [:]
    }

    var reservations: PersistentReservations { kept.reservations }

    /// What the modes are after a reset; nil for those of a new disk.
    var savedModes: DiskModes? { kept.savedModes }

    /// Whether registrations can be kept beyond the end of the service.
    var canPersistReservations: Bool { stateKeeper != nil }

    /// Whether other services may have the disk at the same time.
    var isShared: Bool { stateKeeper?.isShared ?? false }

    /// Whether somebody has changed what is kept since this service looked at it.
    @inline(__always)
    var isStateStale: Bool { state.value.changes.value != state.value.seenChanges }

    // MARK: Changing

    /// Changes what is kept, as a command asks.
    ///
    /// The command may be aborted meanwhile, and ends then: the change is made all the same.
    ///
    /// - Parameters:
    ///   - execution: the command; it ends with HARDWARE ERROR when the change could not be kept.
    ///   - change: is called on another thread where there is a keeper.
    ///   - then: ends the command, and is told what `change` returned: the change is safe, and the
    ///     disk obeys it.
    func change<Result: Sendable>(
        for execution: Execution, _ change: @escaping @Sendable (inout DiskState) -> Result,
        then: @escaping (Result) -> Void
    ) {
        lastChange += 1
        let number = lastChange
        changingCommands[execution.index] = number
        exchange(change) { [self] result in
            guard changingCommands[execution.index] == number else { return }
            changingCommands[execution.index] = nil
            if let result { return then(result) }
            execution.fail(Sense(.hardwareError, .internalTargetFailure))
        }
    }

    /// Nobody wants the outcome of a command any more: it ends if it is one that waits for a change.
    public func abort(_ index: Int, in commands: CommandTable) {
        if changingCommands.removeValue(forKey: index) != nil { commands.end(index) }
    }

    /// Changes what is kept: at once where nobody keeps it.
    private func exchange<Result: Sendable>(
        _ change: @escaping @Sendable (inout DiskState) -> Result,
        then: @escaping (Result?) -> Void
    ) {
        guard let stateKeeper else {
            var changed = kept
            let result = change(&changed)
            adopt(changed)
            return then(result)
        }
        let exchange = StateExchange<Result>()
        exchangeCount += 1
        stateKeeper.exchange(
            { exchange.perform(change, on: $0) },
            whenDone: { [self] changes in
                exchangeCount -= 1
                // Nobody waits any more where the disk has been closed.
                if self.stateKeeper == nil { return }
                let outcome = exchange.takeOutcome()
                if let changes, let outcome {
                    state.value.seenChanges = changes
                    adopt(outcome.state)
                    then(outcome.result)
                } else {
                    then(nil)
                }
                if let table { taskSet.startWaiting(in: table) }
            })
    }

    /// What is kept is known anew: nexuses here are told what messages there are for them.
    private func adopt(_ state: DiskState) {
        kept = state
        restrictionsChanged()
        for notice in state.messages(after: seenMessage) {
            for path in paths where path.reservationNexus == notice.nexus {
                path.raise(notice.attention)
            }
        }
        seenMessage = state.lastMessage
    }

    // MARK: Seeing what others changed

    /// Has a command wait until this service knows what is kept; it is executed again then.
    func waitForState(_ execution: Execution) {
        if isStateUnreadable {
            return execution.fail(Sense(.hardwareError, .internalTargetFailure))
        }
        taskSet.wait(execution.index, in: execution.commands)
        // One that is under way ends in a look at those that wait.
        if exchangeCount > 0 { return }
        exchange { _ in
            true
        } then: { [self] in
            guard $0 == nil else { return }
            isStateUnreadable = true
            if let table { taskSet.startWaiting(in: table) }
            isStateUnreadable = false
        }
    }
}

/// A change on its way to another thread and back.
private final class StateExchange<Result: Sendable>: Sendable {
    struct Outcome: Sendable {
        let state: DiskState
        let result: Result
    }

    private let outcome = Mutex<Outcome?>(nil)

    /// Makes the change.
    ///
    /// - Returns: what is to be kept; nil when that is what was kept before, or nobody can read it.
    func perform(_ change: (inout DiskState) -> Result, on bytes: [UInt8]?) -> [UInt8]? {
        guard let old = bytes.map({ DiskState($0) }) ?? DiskState() else { return nil }
        var state = old
        let result = change(&state)
        outcome.withLock { $0 = Outcome(state: state, result: result) }
        return state == old ? nil : state.bytes
    }

    func takeOutcome() -> Outcome? {
        outcome.withLock { $0 }
    }
}
