// SPDX-License-Identifier: Apache-2.0

// Polling in place of sleeping.
//
// To be woken costs a loop, and whoever wakes it, more than a small request does. So a loop that may
// poll looks, before it sleeps, again and again at what can be looked at without a system call: the
// rings of a driver, the completions of the kernel. As long as it looks nobody need notify it.
//
// For how long it looks, it learns, as KVM does for a processor that halts: a wait that a longer
// look would have ended doubles the window, up to the limit; one that was longer than the limit
// closes it. So a loop that has nothing to do sleeps, and what comes seldom or late costs it one look
// in vain in many. Waits for the end of work that is under way, such as that of a disk, are learned
// apart from those for new work: a slow disk teaches nothing about its driver.
//
// What cannot be looked at does not suffer: descriptors are looked at as soon as there is nothing to
// do, that is within the window, and after so many turns in any case; a timer ends the look.

import CLinux
import SystemPackage

/// Something that a loop can look at instead of being woken for it.
///
/// Called on the loop's thread; must not block.
public protocol Pollable: AnyObject {
    /// Looks whether there is something to do, and does or defers it.
    ///
    /// No system call is made to look.
    ///
    /// - Returns: whether there was something.
    func poll() -> Bool

    /// The loop is about to sleep: asks to be woken from now on.
    ///
    /// - Returns: whether there is something to do after all; it is done or deferred.
    func prepareToSleep() -> Bool

    /// Whether work that it has begun is to end.
    var awaitsCompletions: Bool { get }
}

extension EventLoop {
    /// Turns without a look at the descriptors, while polling finds something to do.
    static let turnLimit = 16

    /// The longest look before the loop sleeps; none when zero, and then nothing is ever polled.
    ///
    /// To be set before anything is added that wants to be polled.
    public var pollLimit: Duration {
        get { .nanoseconds(Int64(clamping: poller.value.windows.limit)) }
        set { poller.value.windows = PollWindows(limit: newValue.wholeNanoseconds) }
    }

    /// Whether the loop polls what is added: who asks to be woken only when it sleeps need not do so
    /// before.
    @inline(__always)
    public var polls: Bool { poller.value.isOn }

    /// Polls from now on; kept until `remove`.
    public func add(_ pollable: any Pollable) {
        poller.value.append(pollable)
    }

    /// Polls no longer.
    public func remove(_ pollable: any Pollable) {
        poller.value.remove(pollable)
    }

    /// Looks for something to do, for a moment if that may pay; waits when there is nothing.
    ///
    /// - Parameter timeout: nanoseconds to wait, nil for as long as it takes; none when there is something to
    ///   do anyway.
    /// - Throws: the errno of epoll_wait.
    func pollOrWait(timeout: Int64?) throws(Errno) {
        poller.value.forgetRemoved()
        if poller.value.poll() { return try goOn() }
        if timeout == 0 { return try waitAndDispatch(timeout: 0) }
        let start = now
        let awaitsCompletions = poller.value.awaitsCompletions
        let window = poller.value.windows[awaitsCompletions].nanoseconds
        if look(for: window, since: start) { return try goOn() }
        poller.value.turnsWithoutWait = 0
        if poller.value.prepareToSleep() { return try waitAndDispatch(timeout: 0) }
        try waitAndDispatch(timeout: timeout)
        poller.value.windows[awaitsCompletions].learn(
            waitedNanoseconds: now.nanoseconds &- start.nanoseconds)
    }

    /// There is something to do: the descriptors get a look now and again.
    private func goOn() throws(Errno) {
        poller.value.turnsWithoutWait += 1
        if poller.value.turnsWithoutWait < Self.turnLimit { return }
        poller.value.turnsWithoutWait = 0
        try waitAndDispatch(timeout: 0)
    }

    /// Looks again and again, for so many nanoseconds.
    ///
    /// - Returns: whether there was something to do, be it a timer that is due.
    private func look(for window: UInt64, since start: Instant) -> Bool {
        if window == 0 { return false }
        let end = start.advanced(byNanoseconds: window)
        let deadline = nextDeadline ?? Instant(nanoseconds: .max)
        while true {
            if poller.value.poll() { return true }
            let moment = now
            if moment >= deadline { return true }
            if moment >= end { return false }
            cl_relax()
        }
    }
}

/// How long a loop looks before it sleeps.
struct PollWindow {
    /// The first one, in nanoseconds: less than it costs to be woken.
    private static let smallest: UInt64 = 4_000

    /// The longest one, in nanoseconds.
    let limit: UInt64
    private(set) var nanoseconds: UInt64 = 0

    init(limit: UInt64) {
        self.limit = limit
    }

    /// Learns from a wait: look and sleep together.
    mutating func learn(waitedNanoseconds: UInt64) {
        if waitedNanoseconds <= nanoseconds { return }
        if waitedNanoseconds <= limit {
            nanoseconds = min(limit, max(Self.smallest, 2 &* nanoseconds))
        } else {
            nanoseconds = 0
        }
    }
}

/// One window for waits for new work, and one for waits for the end of some.
struct PollWindows {
    private var forWork: PollWindow
    private var forCompletions: PollWindow

    init(limit: UInt64) {
        forWork = PollWindow(limit: limit)
        forCompletions = PollWindow(limit: limit)
    }

    /// The longest one, in nanoseconds.
    var limit: UInt64 { forWork.limit }

    subscript(awaitsCompletions: Bool) -> PollWindow {
        get { awaitsCompletions ? forCompletions : forWork }
        set { if awaitsCompletions { forCompletions = newValue } else { forWork = newValue } }
    }
}

/// What a loop polls.
struct Poller: ~Copyable {
    /// Keeps something that is polled.
    private final class Slot {
        let pollable: any Pollable
        init(_ pollable: any Pollable) { self.pollable = pollable }
    }

    private var slots: [Slot] = []
    /// The same ones, to be called without being retained.
    private var references: [BorrowedReference<Slot>] = []
    /// Those that were removed: one may be running.
    private var removed: [Slot] = []
    var windows = PollWindows(limit: 0)
    /// Turns since the descriptors were looked at.
    var turnsWithoutWait = 0

    @inline(__always)
    var isOn: Bool { windows.limit > 0 }

    /// Whether anything waits for the end of work that it has begun.
    var awaitsCompletions: Bool {
        for place in 0..<references.count
        where references[place].with({ $0.pollable.awaitsCompletions }) {
            return true
        }
        return false
    }

    mutating func append(_ pollable: any Pollable) {
        let slot = Slot(pollable)
        slots.append(slot)
        references.append(BorrowedReference(slot))
    }

    mutating func remove(_ pollable: any Pollable) {
        guard let place = slots.firstIndex(where: { $0.pollable === pollable }) else { return }
        removed.append(slots.remove(at: place))
        references.remove(at: place)
    }

    /// Lets go of what was removed; to be called when nothing is running.
    mutating func forgetRemoved() {
        if !removed.isEmpty { removed = [] }
    }

    /// Removes everything; what was polled goes with the result.
    mutating func takeAll() -> [any Pollable] {
        let all = (slots + removed).map(\.pollable)
        slots = []
        references = []
        removed = []
        return all
    }

    /// Looks at everything once; whether there was something to do.
    func poll() -> Bool {
        var isFound = false
        var place = 0
        while place < references.count {
            if references[place].with({ $0.pollable.poll() }) { isFound = true }
            place += 1
        }
        return isFound
    }

    /// Has everything ask to be woken; whether there is something to do after all.
    func prepareToSleep() -> Bool {
        var isFound = false
        var place = 0
        while place < references.count {
            if references[place].with({ $0.pollable.prepareToSleep() }) { isFound = true }
            place += 1
        }
        return isFound
    }
}
