// SPDX-License-Identifier: Apache-2.0

// The two halves of a ring.
//
// `Ring` lives on its device's thread, where the session is: it knows what the front-end said and
// decides when a queue runs. `RingSeat` lives on the thread of whoever serves the queue: it waits for
// the driver's kicks, polls, holds the queue while it runs and until it has drained. Both halves
// are on one thread where the device serves the queue itself; then each calls the other, and all that
// is said below happens at once. Else they write letters (`SeatPost`, `OwnerAddress`), which each
// thread opens in the order in which the other posted them.
//
// A run of a queue, by letters:
//
//   ring: start(queue) ──► seat: the server starts it, looks at it, waits for kicks
//   ring: stop(number) ──► seat: the server stops it; the seat waits until nothing is outstanding
//   seat: last signal, then drained(base) ──► ring: whoever waits for that is answered
//
// So the front-end is answered after the driver's last signal, and nothing touches the ring later.
// When the wait is given up:
//
//   ring: cutOff(number) ──► seat: the queue leaves its ring and its driver alone from now on
//   seat: wasCutOff(base) ──► ring: whoever waits is answered; the run stays in the orphanage
//   seat: drained(base), some day ──► ring: the orphanage lets go
//
// Giving up is itself a letter that is waited for: before the other thread has opened it, the device
// may still write to the ring. A thread that is busy holds that up, a request that hangs does not.
//
// Kicks: the seat alone watches the descriptor, from SET_VRING_KICK on. One that comes while there
// is no queue is told to the ring, one letter at a time. What the ring had dropped before such a
// letter came is recognised by its number.

import LinuxIO
import SystemPackage
import Virtio

/// The descriptor through which a driver kicks a ring; closed when the last one lets go of it.
final class Kick: Sendable {
    let counter: EventCounter
    /// Whether it is read at each kick, as a pipe is.
    ///
    /// An eventfd is never read: an edge is reported for every write to it.
    let isDrained: Bool

    init(_ descriptor: consuming OwnedDescriptor) throws(Errno) {
        let kind = try descriptor.kind()
        try descriptor.setNonblocking()
        isDrained = kind == .pipe || kind == .socket
        counter = EventCounter(taking: descriptor)
    }
}

/// What a seat does about kicks from now on.
enum KickOrder {
    /// Waits for those on a descriptor, of which the ring knows the number.
    case watch(Kick, number: Int)
    /// Looks at the ring now and again.
    case poll
    case unwatch
}

/// The half of a ring that lives where its queue is served.
final class RingSeat {
    /// How long a polled ring is left alone when there was nothing in it.
    private static let pollInterval = Duration.milliseconds(1)

    /// All that a queue starts with.
    struct Start {
        let number: Int
        let queue: Virtqueue
        let call: CallNotifier?
        /// Whether the driver is to be signalled once when that becomes possible, because it may
        /// have missed the last signal before the ring stopped.
        let owesSignal: Bool
        let run: OwnerAddress<RingRun>
    }

    /// A queue that was stopped and may have buffers in flight.
    private struct Stopped {
        let queue: Virtqueue
        let run: OwnerAddress<RingRun>
        var isCutOff = false
    }

    /// Whether the ring has been told of a kick that came while there was no queue.
    private enum KickReport {
        case none, underway, repeated
    }

    private let index: Int
    private let handler: any QueueHandler
    private let loop: EventLoop
    private let ring: OwnerAddress<Ring>

    private var queue: Virtqueue?
    private var present: (number: Int, run: OwnerAddress<RingRun>)?
    private var call: CallNotifier?
    private var owesSignal = false

    private var stopped: [Int: Stopped] = [:]
    /// Runs that have drained and whose driver has not been signalled yet.
    private var drained: [Int] = []
    var isWorkDeferred = false

    private var kick: Kick?
    private var kickNumber = 0
    private var kickReport = KickReport.none
    private var kickRegistration: Registration?
    private var isPolled = false
    private var pollTimer: TimerToken?

    init(index: Int, handler: any QueueHandler, loop: EventLoop, ring: OwnerAddress<Ring>) {
        self.index = index
        self.handler = handler
        self.loop = loop
        self.ring = ring
    }

    // MARK: Running

    /// The ring has everything: from now on its queue is served.
    func start(_ start: Start) {
        queue = start.queue
        present = (start.number, start.run)
        call = start.call
        owesSignal = start.owesSignal
        start.queue.whenBroken { [ring, number = start.number] error in
            ring.post { $0.runBroke(number, error) }
        }
        handler.startQueue(start.queue, at: index)
        paySignal()
        handler.driverNotified(queueAt: index)
        if isPolled { schedulePoll(after: Self.pollInterval) }
    }

    /// Signals through another descriptor from now on; nil for none.
    func setCall(_ notifier: CallNotifier?) {
        guard let queue else { return }
        call = notifier
        queue.notifier = notifier
        guard notifier != nil else { return }
        queue.notifierChanged()
        paySignal()
    }

    private func paySignal() {
        guard owesSignal, let call else { return }
        owesSignal = false
        call.notifyDriver()
    }

    /// Whether writes to the ring itself are recorded.
    func setLogsRing(_ logsRing: Bool) {
        queue?.logsRing = logsRing
    }

    /// The memory has grown; see `GuestMemory.follow`.
    func follow(_ view: GuestMemory) {
        queue?.memory.follow(view)
        ring.post { $0.memoryFollowed() }
    }

    // MARK: Stopping

    /// Takes the queue away; reported when it has drained.
    func stop(_ number: Int) {
        guard let queue, let present, present.number == number else { return }
        self.queue = nil
        self.present = nil
        call = nil
        cancelPoll()
        stopped[number] = Stopped(queue: queue, run: present.run)
        handler.stopQueue(at: index)
        // The queue keeps this seat, and this seat the queue, until it has drained, whoever else
        // has gone meanwhile: what is in flight still touches its memory.
        queue.whenDrained { self.hasDrained(number) }
    }

    /// Called from within `flush`, whose driver may not have been signalled yet.
    private func hasDrained(_ number: Int) {
        if ring.isAway {
            drained.append(number)
            loop.deferWork(self)
        } else {
            reportDrained(number)
        }
    }

    private func reportDrained(_ number: Int) {
        guard let run = stopped[number] else { return }
        if ring.isAway && !run.isCutOff { run.queue.signal() }
        if ring.isAway || run.isCutOff { stopped[number] = nil }
        let base = run.queue.base
        run.run.post { $0.hasDrained(at: base) }
    }

    /// The last signal of a queue that has drained goes out, and the queue is forgotten.
    ///
    /// Nothing to do on another thread than the ring's, where that is done before the ring is told.
    func settle(_ number: Int) {
        stopped.removeValue(forKey: number)?.queue.signal()
    }

    /// Asks whoever serves the queue to cut its requests short.
    func expedite(_ number: Int) {
        guard stopped[number] != nil, !drained.contains(number) else { return }
        handler.expediteStop(ofQueueAt: index)
    }

    /// What is still in flight may end, but the ring has to do with it no more.
    func cutOff(_ number: Int, _ run: OwnerAddress<RingRun>) {
        let queue = stopped[number]?.queue
        let base = queue?.base
        queue?.detach()
        queue?.notifier = nil
        stopped[number]?.isCutOff = true
        run.post { $0.wasCutOff(at: base) }
    }
}

extension RingSeat: DeferredWork {
    func performDeferredWork() {
        let numbers = drained
        drained = []
        for number in numbers { reportDrained(number) }
    }
}

// MARK: Kicks

extension RingSeat: EventHandler {
    /// Does what was ordered last; what was ordered before is over.
    func obey(_ order: KickOrder) {
        switch order {
        case .watch(let kick, let number): watch(kick, number: number)
        case .poll: poll()
        case .unwatch: unwatch()
        }
    }

    /// Waits for kicks on another descriptor from now on.
    ///
    /// Where the loop has no room for it, the ring is started and polled instead.
    private func watch(_ kick: Kick, number: Int) {
        unwatch()
        kickNumber = number
        do throws(Errno) {
            kickRegistration = try loop.add(
                kick.counter.descriptor.rawValue, interest: [.readable, .edgeTriggered],
                handler: self)
            self.kick = kick
        } catch {
            poll()
            if queue == nil { reportKick() }
        }
    }

    /// Looks at the ring now and again, because there is no kick descriptor.
    private func poll() {
        unwatch()
        isPolled = true
        if queue != nil { schedulePoll(after: Self.pollInterval) }
    }

    /// Neither waits for kicks nor polls.
    func unwatch() {
        if let kickRegistration { loop.remove(kickRegistration) }
        kickRegistration = nil
        kick = nil
        // A kick that has not been told yet goes with its descriptor.
        if kickReport == .repeated { kickReport = .underway }
        isPolled = false
        cancelPoll()
    }

    func descriptorReady(_ readiness: Readiness, tag: Int) {
        if let kick, kick.isDrained { kick.counter.drain() }
        if queue != nil {
            handler.driverNotified(queueAt: index)
        } else {
            reportKick()
        }
    }

    private func reportKick() {
        guard kickReport == .none else {
            kickReport = .repeated
            return
        }
        kickReport = .underway
        ring.post { [kickNumber] in $0.kicked(kickNumber) }
    }

    /// The ring knows of the kick that it was told of.
    func kickWasSeen() {
        let isRepeated = kickReport == .repeated
        kickReport = .none
        if isRepeated { reportKick() }
    }
}

extension RingSeat: TimerHandler {
    func timerFired(tag: Int) {
        pollTimer = nil
        guard isPolled, let queue else { return }
        let base = queue.base
        handler.driverNotified(queueAt: index)
        queue.suppressNotifications()
        schedulePoll(after: queue.base == base ? Self.pollInterval : .zero)
    }

    private func schedulePoll(after delay: Duration) {
        cancelPoll()
        pollTimer = loop.setTimer(after: delay, handler: self)
    }

    private func cancelPoll() {
        if let pollTimer { loop.cancel(pollTimer) }
        pollTimer = nil
    }
}
