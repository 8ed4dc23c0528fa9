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
        let queue: Virtqueue
        fileprivate(set) var isDrained = false
    }

    private static let expediteTag = 0
    private static let abandonTag = 1

    private let loop: EventLoop
    private let device: any VirtioDevice
    private let orphanage: Orphanage
    private(set) var entries: [Entry] = []
    private var timers: [TimerToken] = []
    private var completion: (() -> Void)?
    /// Whether the wait was given up.
    private(set) var isAbandoned = false
    var isWorkDeferred = false

    init(loop: EventLoop, device: any VirtioDevice, orphanage: Orphanage) {
        self.loop = loop
        self.device = device
        self.orphanage = orphanage
    }

    /// Whether every queue has drained.
    var isDrained: Bool { entries.allSatisfy(\.isDrained) }

    /// Whether a queue that has not drained lies in this memory.
    func uses(_ memory: GuestMemory) -> Bool {
        entries.contains { !$0.isDrained && $0.queue.memory === memory }
    }

    /// Waits for one queue more.
    func add(_ ring: Ring, _ queue: Virtqueue) {
        let position = entries.count
        entries.append(Entry(ring: ring, queue: queue))
        queue.whenDrained { self.drained(position) }
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
        for timer in timers { loop.cancel(timer) }
        timers = []
        completion = nil
    }

    private func expedite() {
        for entry in entries where !entry.isDrained {
            device.expediteStop(ofQueueAt: entry.ring.index)
        }
    }

    /// Called from within `flush`, so that nothing is done here but to take note.
    private func drained(_ position: Int) {
        entries[position].isDrained = true
        guard isDrained else { return }
        if isAbandoned {
            orphanage.release(self)
        } else if completion != nil {
            loop.deferWork(self)
        }
    }

    func performDeferredWork() {
        finish()
    }

    func timerFired(tag: Int) {
        if tag == Self.expediteTag {
            expedite()
        } else if !isDrained {
            abandon()
            finish()
        }
    }

    /// What is still in flight may end, but the rings have to do with it no more.
    private func abandon() {
        isAbandoned = true
        orphanage.adopt(self)
        for entry in entries where !entry.isDrained {
            entry.queue.detach()
            entry.queue.notifier = nil
        }
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
        drains.reduce(0) { $0 + $1.entries.count { !$0.isDrained } }
    }

    /// Whether requests in flight lie in this memory.
    func uses(_ memory: GuestMemory) -> Bool { drains.contains { $0.uses(memory) } }

    fileprivate func adopt(_ drain: Drain) { drains.append(drain) }
    fileprivate func release(_ drain: Drain) { drains.removeAll { $0 === drain } }
}
