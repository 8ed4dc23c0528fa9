// SPDX-License-Identifier: Apache-2.0

// The life of a ring (vhost-user, "Ring states").
//
// Two switches, each turned by messages: stopped/started and disabled/enabled. A ring begins
// stopped and disabled. SET_VRING_KICK arms it; the first kick starts it, and so does a kick
// descriptor that is none (then the ring is polled), and so does a base that says that the ring has
// run before, because a front-end need not kick a ring that it restores. GET_VRING_BASE stops it
// and forgets its kick and call descriptors. SET_VRING_ENABLE turns the other switch; without
// VHOST_USER_F_PROTOCOL_FEATURES, SET_FEATURES enables every ring.
//
// There is a `Virtqueue` if and only if the ring is started, enabled, known in full and inside the
// shared memory. Everything that takes one of these away first drains the queue and keeps its base;
// everything that gives it back makes a new queue there. So a kick while the ring is disabled is
// not lost: the device looks at every ring that starts. A configuration of a ring that is started
// and disabled stops it without a message (user-mode-linux never sends GET_VRING_BASE).

import LinuxIO
import SystemPackage
import Virtio

/// Who decides what a ring's events mean.
protocol RingHandler: AnyObject {
    /// The driver kicked a ring that has no queue.
    func ringKicked(_ ring: Ring)
    /// The driver broke a ring.
    func ringBroke(_ ring: Ring, _ error: VirtqueueError)
}

/// One ring as the front-end has set it up, and its queue while it runs.
///
/// Lives on its device's thread.
final class Ring {
    /// How long a polled ring is left alone when there was nothing in it.
    private static let pollInterval = Duration.milliseconds(1)

    let index: Int
    var configuration = RingConfiguration()
    /// SET_VRING_ENABLE.
    var isEnabled = false
    /// Whether a kick, or what stands for it, has come.
    var isStarted = false
    /// Whether there has been a queue since the ring was started.
    private(set) var hasRun = false
    /// Where the ring stopped the last time since the device was reset; nil when it has not.
    var stoppedBase: UInt32?
    /// Whether the driver broke the ring; it stays so until it is stopped.
    private(set) var isBroken = false
    /// Whether the driver is to be signalled once when that becomes possible, because it may have
    /// missed the last signal before the ring stopped.
    private var owesSignal = false
    var logGate = LogGate()

    private(set) var queue: Virtqueue?
    private(set) var call: CallNotifier?
    private var error: EventCounter?
    private var kick: EventCounter?
    private var kickRegistration: Registration?
    private var isKickDrained = false
    private(set) var isPolled = false
    private var pollTimer: TimerToken?

    private let loop: EventLoop
    private let device: any VirtioDevice
    private weak var handler: (any RingHandler)?

    init(index: Int, loop: EventLoop, device: any VirtioDevice, handler: any RingHandler) {
        self.index = index
        self.loop = loop
        self.device = device
        self.handler = handler
    }

    // MARK: Running

    /// The ring has everything: from now on the device serves its queue.
    func run(_ queue: Virtqueue, owesSignal: Bool) {
        self.queue = queue
        self.owesSignal = owesSignal
        hasRun = true
        queue.whenBroken { [weak self] error in self?.breaks(error) }
        device.startQueue(queue, at: index)
        paySignal()
        device.driverNotified(queueAt: index)
        if isPolled { schedulePoll(after: Self.pollInterval) }
    }

    /// Takes the queue away; the device is told to stop it.
    func endRun() -> Virtqueue? {
        guard let queue else { return nil }
        self.queue = nil
        cancelPoll()
        device.stopQueue(at: index)
        return queue
    }

    /// Keeps where a queue ended.
    func keepBase(of queue: Virtqueue) {
        configuration.base = queue.base
        stoppedBase = queue.base
    }

    /// Marks the ring broken, and says so to the front-end.
    func breaks(_ reason: VirtqueueError) {
        isBroken = true
        signalError()
        handler?.ringBroke(self, reason)
    }

    /// Stops a ring that has no queue.
    func stop() {
        isStarted = false
        hasRun = false
        isBroken = false
    }

    /// Forgets what GET_VRING_BASE forgets.
    func dropNotifications() {
        dropKick()
        call = nil
    }

    /// Back to what it was when the connection was made, except for the error descriptor.
    func reset() {
        dropNotifications()
        stop()
        isEnabled = false
        configuration = RingConfiguration()
        stoppedBase = nil
    }

    // MARK: Signals to the driver and the front-end

    /// Uses another call descriptor from now on; nil for none.
    func setCall(_ descriptor: consuming OwnedDescriptor?) throws(Errno) {
        guard let descriptor else {
            call = nil
            queue?.notifier = nil
            return
        }
        try descriptor.setNonblocking()
        let notifier = CallNotifier(EventCounter(taking: descriptor))
        call = notifier
        guard let queue else { return }
        queue.notifier = notifier
        queue.notifierChanged()
        paySignal()
    }

    private func paySignal() {
        guard owesSignal, let call else { return }
        owesSignal = false
        call.notifyDriver()
    }

    /// Uses another error descriptor from now on; nil for none.
    func setError(_ descriptor: consuming OwnedDescriptor?) throws(Errno) {
        guard let descriptor else {
            error = nil
            return
        }
        try descriptor.setNonblocking()
        error = EventCounter(taking: descriptor)
    }

    /// Tells the front-end that the ring is of no use.
    func signalError() {
        error?.signal()
    }
}

// MARK: Kicks

extension Ring: EventHandler {
    /// Whether the ring waits for kicks or polls.
    var isArmed: Bool { kickRegistration != nil || isPolled }

    /// Waits for kicks on another descriptor from now on.
    ///
    /// An eventfd is never read: an edge is reported for every write to it.
    func setKick(_ descriptor: consuming OwnedDescriptor) throws(Errno) {
        dropKick()
        let kind = try descriptor.kind()
        try descriptor.setNonblocking()
        kickRegistration = try loop.add(
            descriptor.rawValue, interest: [.readable, .edgeTriggered], handler: self)
        isKickDrained = kind == .pipe || kind == .socket
        kick = EventCounter(taking: descriptor)
    }

    /// Looks at the ring now and again, because there is no kick descriptor.
    func setPolled() {
        dropKick()
        isPolled = true
        if queue != nil { schedulePoll(after: Self.pollInterval) }
    }

    /// Neither waits for kicks nor polls.
    func dropKick() {
        if let kickRegistration { loop.remove(kickRegistration) }
        kickRegistration = nil
        kick = nil
        isPolled = false
        cancelPoll()
    }

    func descriptorReady(_ readiness: Readiness, tag: Int) {
        if isKickDrained { kick?.drain() }
        if queue != nil {
            device.driverNotified(queueAt: index)
        } else {
            handler?.ringKicked(self)
        }
    }
}

extension Ring: TimerHandler {
    func timerFired(tag: Int) {
        pollTimer = nil
        guard isPolled, let queue else { return }
        let base = queue.base
        device.driverNotified(queueAt: index)
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
