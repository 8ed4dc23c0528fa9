// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// The commands under way on a logical unit, in the order in which they came (SAM-5, Task set
/// management).
///
/// A SIMPLE command starts at once unless an older ORDERED one is there; an ORDERED one waits for
/// all older ones; a HEAD OF QUEUE one never waits. Beyond that a command that must not see
/// another one's half-done work (COMPARE AND WRITE and its like) excludes all that touch its
/// blocks.
///
/// Lives on its device's thread.
public final class TaskSet {
    private struct State {
        var first = -1
        var last = -1
        /// Commands that make younger ones wait: ORDERED or exclusive.
        var constrainingCount = 0
        var waitingCount = 0
        var isStarting = false
        var mustLookAgain = false
        var hasClosedGate = false
    }

    private let state = Cell(State())
    /// Who keeps other threads off while something forbids them; nil where there are none.
    var gateKeeper: GateKeeper?

    public init() {}

    /// Commands that have not started.
    @inline(__always)
    var waitingCount: Int { state.value.waitingCount }

    /// Whether a command makes younger ones wait.
    var isConstrained: Bool { state.value.constrainingCount > 0 }

    /// Whether there is a gate for other threads, and it is closed.
    @inline(__always)
    var hasClosedGate: Bool {
        get { state.value.hasClosedGate }
        set { state.value.hasClosedGate = newValue }
    }

    /// The oldest command; -1 when there is none.
    ///
    /// The next ones follow by `Command.next`.
    var first: Int { state.value.first }

    // MARK: Coming and going

    /// Adds a command as the youngest.
    @inline(__always)
    func append(_ index: Int, to commands: CommandTable) {
        let last = state.value.last
        commands[index].previous = last
        commands[index].next = -1
        commands[index].state = .running
        state.value.last = index
        if last >= 0 {
            commands[last].next = index
        } else {
            state.value.first = index
        }
        if commands[index].attribute == .ordered {
            state.value.constrainingCount &+= 1
            closeGate()
        }
    }

    /// Adds a SIMPLE command that another thread had begun as the oldest.
    func prepend(_ index: Int, to commands: CommandTable) {
        let first = state.value.first
        commands[index].previous = -1
        commands[index].next = first
        commands[index].state = .running
        state.value.first = index
        if first >= 0 {
            commands[first].previous = index
        } else {
            state.value.last = index
        }
    }

    /// Keeps other threads off the medium.
    @inline(never)
    func closeGate() {
        gateKeeper?.close()
    }

    /// Lets other threads to the medium, if nothing is against it.
    @inline(never)
    func openGate() {
        gateKeeper?.commandEnded()
    }

    /// Takes a command out.
    @inline(__always)
    func remove(_ index: Int, from commands: CommandTable) {
        let previous = commands[index].previous
        let next = commands[index].next
        if previous >= 0 { commands[previous].next = next } else { state.value.first = next }
        if next >= 0 { commands[next].previous = previous } else { state.value.last = previous }
        if commands[index].state == .waiting { state.value.waitingCount &-= 1 }
        if commands[index].attribute == .ordered { state.value.constrainingCount &-= 1 }
        if commands[index].isExclusive { state.value.constrainingCount &-= 1 }
    }

    // MARK: Waiting

    /// Whether a command must wait for an older one because of the task attributes.
    @inline(__always)
    func mustWait(_ index: Int, in commands: CommandTable) -> Bool {
        state.value.constrainingCount > 0 && attributesForbid(index, in: commands)
    }

    private func attributesForbid(_ index: Int, in commands: CommandTable) -> Bool {
        switch commands[index].attribute {
        case .headOfQueue: return false
        case .ordered: return commands[index].previous >= 0
        case .simple, .automaticContingentAllegiance:
            var older = commands[index].previous
            while older >= 0 {
                if commands[older].attribute == .ordered { return true }
                older = commands[older].previous
            }
            return false
        }
    }

    /// Claims blocks for a command that is about to touch them.
    ///
    /// - Returns: false when an older command forbids it; the command waits then.
    @inline(__always)
    func claim(
        _ extent: BlockExtent, for index: Int, isExclusive: Bool = false, in commands: CommandTable
    ) -> Bool {
        commands[index].extent = extent
        if !isExclusive && state.value.constrainingCount == 0 { return true }
        return claimAmongConstrained(index, isExclusive: isExclusive, in: commands)
    }

    @inline(never)
    private func claimAmongConstrained(
        _ index: Int, isExclusive: Bool, in commands: CommandTable
    ) -> Bool {
        if isExclusive && !commands[index].isExclusive {
            commands[index].isExclusive = true
            state.value.constrainingCount &+= 1
        }
        let extent = commands[index].extent
        var older = commands[index].previous
        while older >= 0 {
            if isExclusive || commands[older].isExclusive,
                commands[older].extent.overlaps(extent)
            {
                wait(index, in: commands)
                return false
            }
            older = commands[older].previous
        }
        return !isOvertaken(index, isExclusive: isExclusive, in: commands)
    }

    /// Has a command wait for one that has overtaken it, as HEAD OF QUEUE does, and has its blocks.
    ///
    /// It waits for running commands only, and those wait for nobody.
    private func isOvertaken(
        _ index: Int, isExclusive: Bool, in commands: CommandTable
    ) -> Bool {
        let extent = commands[index].extent
        var younger = commands[index].next
        while younger >= 0 {
            if commands[younger].state == .running,
                isExclusive || commands[younger].isExclusive,
                commands[younger].extent.overlaps(extent)
            {
                wait(index, in: commands)
                return true
            }
            younger = commands[younger].next
        }
        return false
    }

    /// Has a command wait until another one of the set has ended; it is executed again then.
    func wait(_ index: Int, in commands: CommandTable) {
        commands[index].state = .waiting
        state.value.waitingCount &+= 1
    }

    /// Executes those of the waiting commands that need not wait any more.
    func startWaiting(in commands: CommandTable) {
        state.value.mustLookAgain = true
        if state.value.isStarting { return }
        state.value.isStarting = true
        while state.value.mustLookAgain && state.value.waitingCount > 0 {
            state.value.mustLookAgain = false
            startOldestWaiting(in: commands)
        }
        state.value.isStarting = false
    }

    /// One pass over the set.
    ///
    /// Starts at the oldest again after each command that was executed, because that may have
    /// ended any of the others.
    private func startOldestWaiting(in commands: CommandTable) {
        var index = state.value.first
        var followsOrdered = false
        while index >= 0 {
            let attribute = commands[index].attribute
            // The rule of `mustWait`, in a pass that looks at each command once.
            let isForbidden =
                attribute == .ordered
                ? commands[index].previous >= 0 : attribute != .headOfQueue && followsOrdered
            if attribute == .ordered { followsOrdered = true }
            if commands[index].state == .waiting, !isForbidden {
                commands[index].state = .running
                state.value.waitingCount &-= 1
                let following = commands[index].next
                execute(index, in: commands)
                if state.value.mustLookAgain || state.value.waitingCount == 0 { return }
                index = following
            } else {
                index = commands[index].next
            }
        }
    }

    private func execute(_ index: Int, in commands: CommandTable) {
        commands[index].path?.with { $0.unit.execute(index, in: commands, over: $0) }
    }
}
