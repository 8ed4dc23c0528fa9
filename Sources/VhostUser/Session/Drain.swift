// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Virtio

/// Waits until queues that were stopped have drained, but not for ever.
///
/// First the device has time to end its requests; then it is asked to cut them short; then whoever
/// waits is told that they are still in flight. Such queues are kept here, cut off from their rings,
/// and their memory with them, until the device is done with them.
///
/// Lives on its device's thread.
final class Drain: TimerHandler, DeferredWork {
    /// A queue that was stopped.
    struct Entry {
        let ring: Ring
        let run: RingRun
    }

    private static let expediteTag = 0
    private static let abandonTag = 1

    private let loop: EventLoop
    private let orphanage: Orphanage
    private(set) var entries: [Entry] = []
    private var timers: [TimerToken] = []
    private var completion: (() -> Void)?
    /// Whether the wait was given up.
    private(set) var isAbandoned = false
    /// Queues that have to be cut off before the wait ends that was given up.
    private var cutOffCount = 0
    /// Tells the waits apart.
    private var waitCount = 0
    var isWorkDeferred = false

    init(loop: EventLoop, orphanage: Orphanage) {
        self.loop = loop
        self.orphanage = orphanage
    }

    /// Whether every queue has drained.
    var isDrained: Bool { entries.allSatisfy(\.run.isDrained) }

    /// Whether a queue that has not drained lies in this memory.
    func uses(_ memory: GuestMemory) -> Bool {
        entries.contains { !$0.run.isDrained && $0.run.memory === memory }
    }

    /// Waits for one queue more.
    func add(_ ring: Ring, _ run: RingRun) {
        entries.append(Entry(ring: ring, run: run))
        run.whenDrained { self.drained() }
    }

    /// Starts to wait, or goes on with other limits.
    ///
    /// - Parameters:
    ///   - limits: counted from now.
    ///   - completion: called once, later, when this returns false.
    /// - Returns: whether there is nothing to wait for.
    func wait(_ limits: DrainLimits, _ completion: @escaping () -> Void) -> Bool {
        endWait()
        if limits.expedite == .zero { expedite() }
        if isDrained { return true }
        self.completion = completion
        if limits.expedite > .zero {
            timers.append(
                loop.setTimer(after: limits.expedite, handler: self, tag: Self.expediteTag))
        }
        timers.append(loop.setTimer(after: limits.abandon, handler: self, tag: Self.abandonTag))
        return false
    }

    private func endWait() {
        waitCount += 1
        for timer in timers { loop.cancel(timer) }
        timers = []
        completion = nil
    }

    private func expedite() {
        for entry in entries where !entry.run.isDrained { entry.run.expedite() }
    }

    /// Called from within the device's work, so that nothing is done here but to take note.
    private func drained() {
        guard isDrained else { return }
        if isAbandoned { orphanage.release(self) }
        if completion != nil { loop.deferWork(self) }
    }

    func performDeferredWork() {
        // More may be waited for by now.
        if isDrained { finish() }
    }

    func timerFired(tag: Int) {
        if tag == Self.expediteTag {
            expedite()
        } else if !isDrained {
            abandon()
        }
    }

    /// What is still in flight may end, but the rings have to do with it no more; the wait is over
    /// when that is so.
    private func abandon() {
        isAbandoned = true
        orphanage.adopt(self)
        let left = entries.filter { !$0.run.isDrained }
        cutOffCount = left.count
        let wait = waitCount
        for entry in left { entry.run.cutOff { self.cutOff(in: wait) } }
    }

    private func cutOff(in wait: Int) {
        guard wait == waitCount else { return }
        cutOffCount -= 1
        if cutOffCount == 0 { finish() }
    }

    private func finish() {
        guard let completion else { return }
        endWait()
        completion()
    }
}

/// Keeps the queues, and with them the memory, that were given up while requests were in flight.
///
/// Lives on its device's thread.
final class Orphanage {
    private var drains: [Drain] = []

    /// Queues that are still in use.
    var queueCount: Int {
        drains.reduce(0) { $0 + $1.entries.count { !$0.run.isDrained } }
    }

    /// Whether requests in flight lie in this memory.
    func uses(_ memory: GuestMemory) -> Bool { drains.contains { $0.uses(memory) } }

    fileprivate func adopt(_ drain: Drain) {
        if !drains.contains(where: { $0 === drain }) { drains.append(drain) }
    }

    fileprivate func release(_ drain: Drain) { drains.removeAll { $0 === drain } }
}
