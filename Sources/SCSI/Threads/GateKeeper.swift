// SPDX-License-Identifier: Apache-2.0

import BlockStorage

/// The owner's side of a gate: closes it before anything happens that must not happen beside reads and
/// writes of other threads, and opens it when nothing keeps it closed.
///
/// Whoever changes something that a plain read or write depends on closes the gate first; what is under
/// way then was there before. A command that must be alone holds the gate closed until it has ended,
/// and waits in its task set until nothing is under way. The gate is opened when a command ends, and
/// only then: as long as it is closed every command comes by.
///
/// Lives on its disk's thread.
public final class GateKeeper {
    public let gate: UnitGate
    private(set) weak var disk: Disk?
    private var isOpen = false
    /// Whether nothing was under way after the gate was closed.
    private var isKnownQuiet = true
    private var holdCount = 0
    private var barCount = 0
    private var waiters: [() -> Void] = []
    /// Whether the disk has limits, which other threads would not obey: the gate stays closed.
    public var isLimited = false {
        didSet { if isLimited { close() } }
    }

    init(_ gate: UnitGate, disk: Disk) {
        self.gate = gate
        self.disk = disk
    }

    // MARK: Closing

    /// Closes the gate until the next command ends and finds nothing against it.
    public func close() {
        if !isOpen { return }
        isOpen = false
        isKnownQuiet = false
        gate.close()
        disk?.taskSet.hasClosedGate = true
    }

    /// Keeps the gate closed until `unbar` was called as often.
    public func bar() {
        barCount += 1
        close()
    }

    /// Ends one `bar`.
    public func unbar() {
        precondition(barCount > 0, "a gate is unbarred after it was barred")
        barCount -= 1
    }

    /// Keeps the gate closed until a command has ended.
    ///
    /// - Returns: whether nothing is under way, so that the command may begin.
    func hold(_ index: Int, in commands: CommandTable) -> Bool {
        if !commands[index].holdsGate {
            commands[index].holdsGate = true
            holdCount += 1
            close()
        }
        return isQuiet
    }

    /// A command that held the gate has ended.
    func letGo(_ index: Int, in commands: CommandTable) {
        commands[index].holdsGate = false
        holdCount -= 1
    }

    // MARK: Waiting

    /// How many wait until nothing is under way.
    var waiterCount: Int { waiters.count }

    /// Whether the gate is closed and nothing is under way behind it.
    public var isQuiet: Bool {
        if isOpen { return false }
        if !isKnownQuiet && gate.underWayCount == 0 { isKnownQuiet = true }
        return isKnownQuiet
    }

    /// Calls `body` once when nothing is under way; the gate is closed, and kept so by the caller.
    public func whenQuiet(_ body: @escaping () -> Void) {
        if isQuiet { return body() }
        waiters.append(body)
        gate.awaitQuiet()
        lookAgain()
    }

    /// A thread says that it has nothing under way any more.
    public func lookAgain() {
        if waiters.isEmpty || !isQuiet { return }
        let waiters = waiters
        self.waiters = []
        gate.close()
        for body in waiters { body() }
    }

    // MARK: Opening

    /// A command has ended: opens the gate if nothing is against it.
    func commandEnded() {
        guard !isOpen, holdCount == 0, barCount == 0, !isLimited, waiters.isEmpty,
            let disk, let passage = disk.passageForThreads
        else { return }
        isOpen = true
        disk.taskSet.hasClosedGate = false
        gate.open(passage, blockCount: disk.geometry.blockCount)
    }
}
