// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// The way from an initiator through a target to one logical unit (SAM-5, I_T_L nexus).
///
/// Lives on its device's thread.
public final class ITLNexus {
    /// The target that the way leads through.
    public let target: Target
    /// The unit's number at that target; nil for the well-known one and for the absent.
    public let lun: LUN?
    /// Where the way ends.
    public let unit: any LogicalUnit
    /// The task set of the unit.
    public let taskSet: TaskSet

    private struct State {
        var unitAttentions = UnitAttentionSet()
        var isRestricted = false
        var commandCount = 0
    }

    private let state = Cell(State())

    init(target: Target, lun: LUN?, unit: any LogicalUnit) {
        self.target = target
        self.lun = lun
        self.unit = unit
        taskSet = unit.taskSet
    }

    /// What the unit has to tell the initiator before it does anything else.
    @inline(__always)
    public var unitAttentions: UnitAttentionSet { state.value.unitAttentions }

    /// Whether a reservation keeps this nexus from some commands.
    var isRestricted: Bool {
        get { state.value.isRestricted }
        set { state.value.isRestricted = newValue }
    }

    /// Whether READ and WRITE need no further look at the nexus.
    @inline(__always)
    var isUnhindered: Bool { state.value.unitAttentions.isEmpty && !state.value.isRestricted }

    /// Raises a unit attention condition.
    public func raise(_ attention: UnitAttention) {
        taskSet.closeGate()
        state.value.unitAttentions.insert(attention)
    }

    /// Takes the most important unit attention condition off.
    public func takeUnitAttention() -> UnitAttention? {
        state.value.unitAttentions.popFirst()
    }

    /// Forgets a unit attention condition.
    public func clear(_ attention: UnitAttention) {
        state.value.unitAttentions.remove(attention)
    }

    /// Forgets every unit attention condition.
    public func clearUnitAttentions() {
        state.value.unitAttentions = UnitAttentionSet()
    }

    /// Commands under way over this nexus.
    @inline(__always)
    var commandCount: Int { state.value.commandCount }

    @inline(__always)
    func commandBegan() {
        state.value.commandCount &+= 1
    }

    /// A command over this nexus has ended: those that waited for it may start.
    @inline(__always)
    func commandEnded(in commands: CommandTable) {
        state.value.commandCount &-= 1
        if taskSet.waitingCount > 0 { taskSet.startWaiting(in: commands) }
        if taskSet.hasClosedGate { taskSet.openGate() }
    }
}
