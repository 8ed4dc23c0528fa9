// SPDX-License-Identifier: Apache-2.0

import LinuxIO

extension SCSIBus {
    /// Performs a task management function.
    ///
    /// It ends by way of `CommandTable.takeEndedManagements`, after every command that it aborts.
    ///
    /// - Parameters:
    ///   - function: what to do.
    ///   - address: the logical unit, or for I_T NEXUS RESET the target.
    ///   - tag: the command, where the function is about one.
    ///   - token: handed back with the answer.
    public func manage(
        _ function: TaskManagementFunction, address: LUNAddress, tag: UInt64, token: UInt64
    ) {
        let management = TaskManagement(token: token)
        perform(function, address: address, tag: tag, management)
        if management.remainingCount == 0 { commands.end(management) }
    }

    /// Who keeps other threads off the units that a function is about.
    public func gateKeepers(
        concernedBy function: TaskManagementFunction, address: LUNAddress
    ) -> [GateKeeper] {
        guard let path = resolve(address) else { return [] }
        guard case .iTNexusReset = function else {
            return [path.taskSet.gateKeeper].compactMap { $0 }
        }
        return path.target.paths.compactMap { $0.taskSet.gateKeeper }
    }

    private func perform(
        _ function: TaskManagementFunction, address: LUNAddress, tag: UInt64,
        _ management: TaskManagement
    ) {
        guard let path = resolve(address) else {
            management.response = .badTarget
            return
        }
        if case .iTNexusReset = function { return resetNexus(of: path.target, management) }
        guard !(path.unit is AbsentLogicalUnit) else {
            management.response = .incorrectLUN
            return
        }
        switch function {
        case .abortTask:
            abort(over: path, response: .aborted, management) { $0.tag == tag }
        case .abortTaskSet:
            abort(over: path, response: .aborted, management) { _ in true }
        case .clearTaskSet: clearTaskSet(path, management)
        case .logicalUnitReset: resetUnit(path, management)
        case .queryTask:
            query(path, management) { $0.tag == tag }
        case .queryTaskSet:
            query(path, management) { _ in true }
        case .clearACA, .iTNexusReset: management.response = .functionRejected
        }
    }

    /// Aborts commands of this nexus.
    private func abort(
        over path: ITLNexus, response: ServiceResponse, _ management: TaskManagement,
        where isMeant: (borrowing Command) -> Bool
    ) {
        for index in commands.commands(in: path.taskSet)
        where commands.isOn(path, index) && isMeant(commands[index]) {
            commands.abort(index, response: response, for: management)
        }
    }

    private func query(
        _ path: ITLNexus, _ management: TaskManagement,
        where isMeant: (borrowing Command) -> Bool
    ) {
        let isThere = commands.commands(in: path.taskSet).contains {
            commands.isOn(path, $0) && isMeant(commands[$0])
        }
        management.response = isThere ? .functionSucceeded : .functionComplete
    }

    /// Aborts the commands of every nexus; the other ones are told by a unit attention.
    private func clearTaskSet(_ path: ITLNexus, _ management: TaskManagement) {
        for index in commands.commands(in: path.taskSet) {
            commands[index].path?.with { if $0 !== path { $0.raise(.commandsCleared) } }
            commands.abort(index, response: .aborted, for: management)
        }
    }

    private func resetUnit(_ path: ITLNexus, _ management: TaskManagement) {
        for index in commands.commands(in: path.taskSet) {
            commands.abort(index, response: .reset, for: management)
        }
        path.unit.reset()
        for path in paths(to: path.unit) { path.raise(.logicalUnitReset) }
    }

    private func resetNexus(of target: Target, _ management: TaskManagement) {
        for path in target.paths {
            abort(over: path, response: .reset, management) { _ in true }
            path.unit.nexusLost(path)
            path.raise(.nexusLoss)
        }
    }
}

/// Finding and aborting commands.
extension CommandTable {
    /// The commands of a task set, oldest first.
    func commands(in taskSet: TaskSet) -> [Int] {
        var indices: [Int] = []
        var index = taskSet.first
        while index >= 0 {
            indices.append(index)
            index = self[index].next
        }
        return indices
    }

    /// Whether a command came over this nexus.
    func isOn(_ path: ITLNexus, _ index: Int) -> Bool {
        self[index].path?.with { $0 === path } ?? false
    }

    /// Aborts a command: it ends with `response` instead of its outcome as soon as nothing touches
    /// its buffers any more; `management` waits for that end.
    func abort(_ index: Int, response: ServiceResponse, for management: TaskManagement?) {
        guard self[index].state == .running || self[index].state == .waiting else { return }
        if self[index].abortResponse == .complete { self[index].abortResponse = response }
        if let management { wait(management, for: index) }
        if self[index].state == .waiting {
            end(index)
        } else {
            self[index].path?.with { $0.unit.abort(index, in: self) }
        }
    }

    /// Ends the commands that nothing works on yet, or whose unit can let go of them at once, of
    /// those that `isMeant`, as a reset would.
    public func abandonWaiting(where isMeant: (Int) -> Bool) {
        var taskSets: [TaskSet] = []
        for index in 0..<madeCount where self[index].state == .waiting && isMeant(index) {
            self[index].path?.with { path in
                if !taskSets.contains(where: { $0 === path.taskSet }) {
                    taskSets.append(path.taskSet)
                }
            }
        }
        for index in taskSets.flatMap({ commands(in: $0) }) where isMeant(index) {
            abort(index, response: .reset, for: nil)
        }
        for index in 0..<madeCount where self[index].state == .running && isMeant(index) {
            self[index].path?.with { path in
                if let disk = path.unit as? Disk, disk.changingCommands[index] != nil {
                    self[index].abortResponse = .reset
                    disk.abort(index, in: self)
                }
                guard let unit = path.unit as? any AbandoningLogicalUnit else { return }
                self[index].abortResponse = .reset
                unit.abandon(index)
            }
        }
    }
}
