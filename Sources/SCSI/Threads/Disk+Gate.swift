// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// Other threads that read and write the disk's medium by themselves.
extension Disk {
    /// Lets other threads pass through a gate from now on, whenever nothing is against it.
    ///
    /// To be called before the disk is attached.
    ///
    /// - Returns: who closes the gate; kept by the disk.
    public func admitThreads(through gate: UnitGate) -> GateKeeper {
        let keeper = GateKeeper(gate, disk: self)
        taskSet.gateKeeper = keeper
        taskSet.hasClosedGate = true
        state.value.hasGate = true
        return keeper
    }

    /// Who closes the gate for other threads; nil where there are none.
    public var gateKeeper: GateKeeper? { taskSet.gateKeeper }

    /// Bytes of a block, as a power of two.
    public var blockShift: UInt64 { state.value.blockShift }

    /// What other threads may do beside what is under way here; nil for nothing.
    var passageForThreads: UnitGate.Passage? {
        guard !isShared, !isStateStale, exchangeCount == 0, !state.value.isRestricted,
            !paths.isEmpty, paths.allSatisfy(\.isUnhindered), !taskSet.isConstrained,
            taskSet.waitingCount == 0
        else { return nil }
        return isWriteProtected || isWriteThrough ? .reads : [.reads, .writes]
    }

    /// Whether a command has to wait until other threads have nothing under way; it holds the gate
    /// closed then, and is executed again.
    @inline(never)
    func waitsForGate(_ index: Int, in commands: CommandTable) -> Bool {
        guard let keeper = taskSet.gateKeeper, Self.mustBeAlone(commands[index]) else {
            return false
        }
        let isFirstTime = !commands[index].holdsGate
        if keeper.hold(index, in: commands) { return false }
        taskSet.wait(index, in: commands)
        // Looked at again whenever another command ends: one who tells is enough.
        if isFirstTime { tellWhenQuiet(keeper, commands) }
        return true
    }

    private func tellWhenQuiet(_ keeper: GateKeeper, _ commands: CommandTable) {
        keeper.whenQuiet { [weak self] in self?.taskSet.startWaiting(in: commands) }
    }

    /// Whether a command must not run beside plain reads and writes of other threads.
    private static func mustBeAlone(_ command: borrowing Command) -> Bool {
        switch command.attribute {
        case .ordered, .automaticContingentAllegiance: true
        case .simple, .headOfQueue: !harmlessCodes.contains(command.cdb.operationCode)
        }
    }

    /// Operation codes of commands that change nothing that a plain read or write depends on, and
    /// that exclude none: they run beside those of this thread, too.
    private static let harmlessCodes: Set<UInt8> = [
        OperationCode.testUnitReady, OperationCode.requestSense, OperationCode.inquiry,
        OperationCode.modeSense6, OperationCode.modeSense10, OperationCode.readCapacity10,
        OperationCode.serviceActionIn16, OperationCode.reportLUNs, OperationCode.maintenanceIn,
        OperationCode.logSense, OperationCode.persistentReserveIn,
        OperationCode.readDefectData10, OperationCode.readDefectData12,
        OperationCode.read6, OperationCode.read10, OperationCode.read12, OperationCode.read16,
        OperationCode.write6, OperationCode.write10, OperationCode.write12,
        OperationCode.write16, OperationCode.verify10, OperationCode.verify12,
        OperationCode.verify16, OperationCode.preFetch10, OperationCode.preFetch16,
        OperationCode.synchronizeCache10, OperationCode.synchronizeCache16,
        OperationCode.unmap, OperationCode.writeSame10, OperationCode.writeSame16,
    ]
}
