// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// The commands under way between one transport and its logical units.
///
/// The transport reserves a place, fills it in and has the bus execute it; the logical unit ends it
/// by one of the functions here, at once or later; at the end of the turn the transport takes the
/// ended commands off (`popEnded`), answers them and releases their places. All on one thread.
public final class CommandTable {
    private struct State {
        var firstFree = -1
        /// Of the places for commands of other threads.
        var firstFreeApart = -1
        var apartCount = 0
        var firstEnded = -1
        var lastEnded = -1
        var underWayCount = 0
        var hasAbortWaiters = false
        var keepsPaths = false
        var endedManagements: [TaskManagement] = []
    }

    /// Places that there may be for commands that other threads have taken: 4096 for each of 64, so
    /// that rings of common sizes find room, and functions all of their requests.
    public static let apartLimit = 64 * 4096
    /// Of these, how many one thread may have at most.
    public static let shareLimit = 16384

    /// The commands in place.
    public let commands: GrowingSlab<Command>
    /// How many places there may be for commands of this thread.
    private let ownLimit: Int
    private let state = Cell(State())
    /// What takes the ended commands off; asked for when there is a first one.
    private let loop: EventLoop?
    /// What takes the ended commands off, at the end of the loop's turn.
    public weak var completionWork: (any DeferredWork)?
    /// Who waits for aborted commands to end, by the commands' indices.
    private var abortWaiters: [Int: [TaskManagement]] = [:]
    /// Ways that commands under way still lead over although their bus has gone.
    private var keptPaths: [ITLNexus] = []

    /// A table for at most `limit` commands.
    ///
    /// Without a loop, on whose thread everything happens, ended commands are polled for.
    public init(limit: Int, loop: EventLoop?) {
        let chunkCount = GrowingSlab<Command>.chunkCount
        ownLimit = max(1, (limit + chunkCount - 1) / chunkCount) * chunkCount
        commands = GrowingSlab(limit: ownLimit + Self.apartLimit) { Command() }
        self.loop = loop
    }

    /// How many places have been made so far.
    var madeCount: Int { commands.count }

    /// How many places there may be, of both kinds.
    public var limit: Int { commands.limit }

    /// Commands that were executed and have not ended.
    public var underWayCount: Int { state.value.underWayCount }

    /// A command, in place; for this module only, since in another one the accessors would be calls
    /// that allocate.
    @inline(__always)
    subscript(index: Int) -> Command {
        _read { yield commands[index] }
        _modify { yield &commands[index] }
    }

    // MARK: Places

    /// Takes a place for a command.
    ///
    /// - Returns: its index; nil when the limit is reached.
    @inline(__always)
    public func reserve() -> Int? {
        var index = state.value.firstFree
        if index < 0 {
            guard growFreeList() else { return nil }
            index = state.value.firstFree
        }
        state.value.firstFree = commands[index].next
        prepare(index)
        return index
    }

    /// Takes a place for a command that another thread has taken.
    ///
    /// Those have places apart, so that there is one for each however many commands this thread
    /// has. As many may be taken as `apartLimit` says.
    @inline(never)
    public func reserveApart() -> Int? {
        if state.value.firstFreeApart < 0 { growApart() }
        let index = state.value.firstFreeApart
        guard index >= 0 else { return nil }
        state.value.firstFreeApart = commands[index].next
        prepare(index)
        return index
    }

    private func growApart() {
        guard state.value.apartCount < Self.apartLimit else { return }
        let made = commands.grow()
        state.value.apartCount += made.count
        for index in made.reversed() {
            commands[index].isApart = true
            commands[index].next = state.value.firstFreeApart
            state.value.firstFreeApart = index
        }
    }

    @inline(__always)
    private func prepare(_ index: Int) {
        commands[index].state = .reserved
        commands[index].response = .complete
        commands[index].abortResponse = .complete
        commands[index].status = .good
        commands[index].extent = BlockExtent(first: 0, count: 0)
        commands[index].direction = .none
        commands[index].demandedByteCount = 0
        commands[index].movedByteCount = 0
        commands[index].pendingPartCount = 0
        commands[index].isExclusive = false
        commands[index].holdsGate = false
    }

    @inline(never)
    private func growFreeList() -> Bool {
        guard commands.count - state.value.apartCount < ownLimit else { return false }
        let made = commands.grow()
        for index in made.reversed() {
            commands[index].next = state.value.firstFree
            state.value.firstFree = index
        }
        return !made.isEmpty
    }

    /// Gives the place of a command that has ended, or was never executed, back.
    @inline(__always)
    public func release(_ index: Int) {
        precondition(
            commands[index].state == .ended || commands[index].state == .reserved,
            "a place is given back once, when nothing works on its command")
        commands[index].state = .free
        if commands[index].isApart { return releaseApart(index) }
        commands[index].next = state.value.firstFree
        state.value.firstFree = index
    }

    @inline(never)
    private func releaseApart(_ index: Int) {
        commands[index].next = state.value.firstFreeApart
        state.value.firstFreeApart = index
    }

    // MARK: The way of a command

    /// The command goes to work: counted until it ends.
    @inline(__always)
    func began(_ index: Int) {
        state.value.underWayCount &+= 1
    }

    /// Ends a command; its outcome is set.
    ///
    /// Whoever waited for it in the task set may start from in here.
    func end(_ index: Int) {
        precondition(
            commands[index].state != .ended && commands[index].state != .free,
            "a command ends exactly once")
        if commands[index].abortResponse != .complete { replaceOutcomeOfAborted(index) }
        if let path = commands[index].path {
            path.with { $0.taskSet.remove(index, from: self) }
        }
        commands[index].state = .ended
        commands[index].next = -1
        state.value.underWayCount &-= 1
        appendEnded(index)
        if commands[index].holdsGate { letGateGo(index) }
        if let path = commands[index].path { path.with { $0.commandEnded(in: self) } }
        if state.value.hasAbortWaiters { tellAbortWaiters(of: index) }
        if state.value.underWayCount == 0 && state.value.keepsPaths { letPathsGo() }
    }

    @inline(never)
    private func letGateGo(_ index: Int) {
        commands[index].path?.with { $0.taskSet.gateKeeper?.letGo(index, in: self) }
    }

    @inline(__always)
    private func appendEnded(_ index: Int) {
        let last = state.value.lastEnded
        state.value.lastEnded = index
        if last >= 0 {
            commands[last].next = index
        } else {
            state.value.firstEnded = index
            askForCompletionWork()
        }
    }

    @inline(never)
    private func askForCompletionWork() {
        if let loop, let completionWork { loop.deferWork(completionWork) }
    }

    @inline(never)
    private func replaceOutcomeOfAborted(_ index: Int) {
        commands[index].response = commands[index].abortResponse
        commands[index].status = .good
        commands[index].demandedByteCount = 0
        commands[index].movedByteCount = 0
    }

    /// Takes the command that ended first off the list of the ended ones; the transport answers
    /// and releases it.
    @inline(__always)
    public func popEnded() -> Int? {
        let index = state.value.firstEnded
        guard index >= 0 else { return nil }
        let next = commands[index].next
        state.value.firstEnded = next
        if next < 0 { state.value.lastEnded = -1 }
        return index
    }

    /// What an ended command's initiator is told of its buffer (`Command.residualByteCount`).
    ///
    /// For the transport, in whose module the property would copy the whole command.
    public func residualByteCount(of index: Int) -> Int {
        commands[index].residualByteCount
    }

    /// Whether there are ended commands, or functions, to be taken off.
    @inline(__always)
    public var hasEnded: Bool {
        state.value.firstEnded >= 0 || !state.value.endedManagements.isEmpty
    }

    /// Keeps ways that commands under way lead over.
    func keep(_ paths: [ITLNexus]) {
        guard underWayCount > 0 else { return }
        keptPaths += paths
        state.value.keepsPaths = true
    }

    @inline(never)
    private func letPathsGo() {
        keptPaths = []
        state.value.keepsPaths = false
    }

    // MARK: Task management

    /// The function has ended; it is answered after the commands that ended before it.
    func end(_ management: TaskManagement) {
        state.value.endedManagements.append(management)
        askForCompletionWork()
    }

    /// Takes the task management functions that have ended since the last time.
    ///
    /// To be called when `popEnded` has nothing more, and those commands were answered.
    public func takeEndedManagements() -> [TaskManagement] {
        if state.value.endedManagements.isEmpty { return [] }
        let ended = state.value.endedManagements
        state.value.endedManagements = []
        return ended
    }

    /// Has the function wait for the end of a command.
    func wait(_ management: TaskManagement, for index: Int) {
        management.remainingCount += 1
        abortWaiters[index, default: []].append(management)
        state.value.hasAbortWaiters = true
    }

    @inline(never)
    private func tellAbortWaiters(of index: Int) {
        for waiter in abortWaiters.removeValue(forKey: index) ?? [] {
            waiter.remainingCount -= 1
            if waiter.remainingCount == 0 { end(waiter) }
        }
        state.value.hasAbortWaiters = !abortWaiters.isEmpty
    }
}
