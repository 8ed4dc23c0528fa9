// SPDX-License-Identifier: Apache-2.0

import CLibiscsi
import LinuxIO
import Logging

/// One thing after the other that the target is asked to do with its tasks.
///
/// What is asked for grows until it works: ABORT TASK, LOGICAL UNIT RESET, and at last a new login,
/// at which the target ends every task of the old session (RFC 7143 §6.3.5).
struct ManagementRound {
    enum Function: Equatable {
        case abortTask(token: UInt64)
        case abortTaskSet
        case logicalUnitReset
    }

    enum Stage {
        /// What was queued before has to be sent first: the request would overtake it, and there
        /// would be nothing to abort yet.
        case waitingForDrain
        case sent
        /// The target has done it; data that were being sent leave the guest's memory first.
        case answered
    }

    var function: Function
    var stage = Stage.waitingForDrain
}

extension ISCSISession {
    /// Ends a command early, if it has not ended yet; the owner is told as usual.
    ///
    /// The owner's buffers are not touched after that.
    public func abort(token: UInt64) {
        if let command = flow.value.pending.remove(token: token) { return tell(command, .aborted) }
        guard phase == .up else { return }
        flow.value.abortedTokens.insert(token)
        loop.deferWork(self)
    }

    /// Ends a command before this returns, at the price of the connection if the target has it.
    ///
    /// The owner's buffers are not touched after that.
    public func abandon(token: UInt64) {
        if let command = flow.value.pending.remove(token: token) { return tell(command, .aborted) }
        guard phase == .up, index(of: token) != nil else { return }
        flow.value.abortedTokens.insert(token)
        loseSession(.abandoned)
    }

    /// Resets the logical unit; its commands have been aborted.
    ///
    /// Without a session it is done after the next login, before any other command.
    public func reset() {
        isResetWanted = true
        if phase == .up { loop.deferWork(self) }
    }

    /// Begins what is wanted most, unless something is under way.
    func beginManagementIfWanted() {
        guard isResetWanted || !flow.value.abortedTokens.isEmpty, management == nil,
            connection != nil
        else { return }
        if isResetWanted {
            isResetWanted = false
            begin(.logicalUnitReset)
        } else if let token = flow.value.abortedTokens.first {
            let isForAll =
                flow.value.abortedTokens.count > 1
                && flow.value.abortedTokens.count == ownersIndices.count
            begin(isForAll ? .abortTaskSet : .abortTask(token: token))
        }
    }

    private func begin(_ function: ManagementRound.Function) {
        management = ManagementRound(function: function)
        setTimer(.management, after: configuration.timeouts.taskManagement)
    }

    /// The slots of the owner's commands, in order.
    private var ownersIndices: [Int] {
        guard let slots = connection?.slots else { return [] }
        return slots.usedIndices().filter { slots.command($0)?.purpose == .owner }
    }

    private func index(of token: UInt64) -> Int? {
        guard let slots = connection?.slots else { return nil }
        return ownersIndices.first { slots.command($0)?.token == token }
    }

    /// Takes the next step, if it is time.
    func continueManagement() {
        guard let round = management, let connection else { return }
        switch round.stage {
        case .waitingForDrain: if connection.isDrained { send(round.function) }
        case .sent: if let response = connection.managementResponse { answered(response) }
        case .answered: if connection.isDrained { finish(round.function) }
        }
    }

    private func send(_ function: ManagementRound.Function) {
        guard let connection else { return }
        var number: Int?
        let request: iscsi_task_mgmt_funcs
        switch function {
        case .abortTask(let token):
            number = index(of: token)
            // The command has ended by itself meanwhile.
            guard number != nil else { return finish(function) }
            request = ISCSI_TM_ABORT_TASK
        case .abortTaskSet: request = ISCSI_TM_ABORT_TASK_SET
        case .logicalUnitReset: request = ISCSI_TM_LUN_RESET
        }
        guard connection.manage(request, lun: lunField, index: number) else {
            return loseSession(.resetByManagement)
        }
        management?.stage = .sent
        log.debug("task management", metadata: ["function": "\(function)"])
        loop.deferWork(self)
    }

    /// Function complete, or task does not exist, which is as good (RFC 7143 §11.6.1).
    private func answered(_ response: UInt32) {
        if response > 1 { return escalate("response \(response)") }
        management?.stage = .answered
        continueManagement()
    }

    func managementTimedOut() {
        guard management != nil else { return }
        escalate("no response within \(configuration.timeouts.taskManagement)")
    }

    private func escalate(_ reason: String) {
        guard let function = management?.function else { return }
        log.notice(
            "task management fails",
            metadata: ["function": "\(function)", "reason": "\(reason)"])
        if function == .logicalUnitReset { return loseSession(.resetByManagement) }
        begin(.logicalUnitReset)
        continueManagement()
    }

    /// The target no longer knows the commands: the library and the owner are told.
    private func finish(_ function: ManagementRound.Function) {
        management = nil
        cancelTimer(.management)
        guard let slots = connection?.slots else { return }
        var ended: [ISCSICommand] = []
        for index in indicesEnded(by: function) {
            if let command = slots.command(index) { ended.append(command) }
            connection?.withdraw(index)
        }
        if case .abortTask(let token) = function { flow.value.abortedTokens.remove(token) }
        // Those that nobody wanted to end are done again, as after a new login.
        let unwanted = ended.filter {
            flow.value.abortedTokens.contains($0.token) || isAborted($0, function)
        }
        let wanted = ended.filter { command in !unwanted.contains { $0.token == command.token } }
        for command in unwanted { tell(command, .aborted) }
        requeue(wanted)
        loop.deferWork(self)
    }

    private func isAborted(_ command: ISCSICommand, _ function: ManagementRound.Function) -> Bool {
        function == .abortTask(token: command.token)
    }

    private func indicesEnded(by function: ManagementRound.Function) -> [Int] {
        guard case .abortTask(let token) = function else { return ownersIndices }
        return index(of: token).map { [$0] } ?? []
    }
}
