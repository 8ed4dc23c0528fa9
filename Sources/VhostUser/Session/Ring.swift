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
//
// The queue itself, and what its driver's kicks lead to, is with the ring's other half, on the thread
// that serves the queue: see `RingSeat`.

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

/// One ring as the front-end has set it up, and the run of its queue.
///
/// Lives on its device's thread.
final class Ring {
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
    var logGate = LogGate()

    /// The run that has begun and was not ended; nil while there is none.
    private var run: RingRun?
    private var runCount = 0
    private(set) var call: CallNotifier?
    private var error: EventCounter?
    /// Tells the kick descriptors apart that there have been.
    private var kickNumber = 0
    /// On their way to the seat; of a run that is over, what was on its way goes with that.
    private var callOrder = LatestOrder<CallNotifier?>()
    private var kickOrder = LatestOrder<KickOrder>()
    /// Who waits until the seat knows of more memory, in order.
    private var memoryWaiters: [() -> Void] = []

    private let loop: EventLoop
    private weak var handler: (any RingHandler)?
    private lazy var seat = makeSeat()
    private let device: any VirtioDevice

    init(index: Int, loop: EventLoop, device: any VirtioDevice, handler: any RingHandler) {
        self.index = index
        self.loop = loop
        self.device = device
        self.handler = handler
    }

    private func makeSeat() -> SeatPost {
        if let server = device.server(ofQueueAt: index) {
            let ring = OwnerAddress(self, mailbox: loop.mailbox)
            return .away(server, SeatPlace(index: index, ring: ring))
        }
        return .here(
            RingSeat(
                index: index, handler: device, loop: loop, ring: OwnerAddress(self, mailbox: nil)))
    }

    /// Whether the queue is served on another thread.
    var isServedElsewhere: Bool { seat.isAway }

    // MARK: Running

    /// Whether there is a queue.
    var isRunning: Bool { run != nil }

    /// What the queue's buffers are to lie in: the memory itself, or a view for another thread.
    func queueMemory(_ memory: GuestMemory) -> GuestMemory {
        isServedElsewhere ? memory.makeView() : memory
    }

    /// The ring has everything: from now on its queue is served.
    ///
    /// - Parameters:
    ///   - queue: nobody else has used it.
    ///   - memory: the session's.
    ///   - owesSignal: whether the driver is to be signalled once.
    func run(_ queue: Virtqueue, memory: GuestMemory, owesSignal: Bool) {
        runCount += 1
        let run = RingRun(
            runCount, memory: memory, seat: seat,
            mailbox: isServedElsewhere ? loop.mailbox : nil)
        self.run = run
        callOrder = LatestOrder()
        hasRun = true
        let start = Handover(
            RingSeat.Start(
                number: run.number, queue: queue, call: call, owesSignal: owesSignal,
                run: run.address))
        seat.post { seat in
            if let start = start.take() { seat.start(start) }
        }
    }

    /// Takes the queue away; whoever serves it is told to stop it.
    func endRun() -> RingRun? {
        guard let run else { return nil }
        self.run = nil
        seat.post { [number = run.number] in $0.stop(number) }
        kickOrder = LatestOrder()
        return run
    }

    /// Keeps where a queue ended.
    func keepBase(of run: RingRun) {
        guard let base = run.base else { return }
        configuration.base = base
        stoppedBase = base
    }

    /// The driver broke the queue of a run.
    func runBroke(_ number: Int, _ reason: VirtqueueError) {
        if run?.number == number { breaks(reason) }
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

    /// Gives the seat up: nothing more is done with this ring.
    func close() {
        seat.close()
    }

    // MARK: The running queue

    /// Whether writes to the ring itself are recorded in the dirty log.
    func setLogsRing(_ logsRing: Bool) {
        seat.post { $0.setLogsRing(logsRing) }
    }

    /// Lets a queue on another thread know of regions that were added; calls `body` when it does.
    func follow(_ memory: GuestMemory, _ body: @escaping () -> Void) {
        memoryWaiters.append(body)
        let view = Handover(memory.makeView())
        seat.post { seat in
            if let view = view.take() { seat.follow(view) }
        }
    }

    /// The seat knows of more memory.
    func memoryFollowed() {
        guard !memoryWaiters.isEmpty else { return }
        memoryWaiters.removeFirst()()
    }

    // MARK: Signals to the driver and the front-end

    /// Uses another call descriptor from now on; nil for none.
    func setCall(_ descriptor: consuming OwnedDescriptor?) throws(Errno) {
        if let descriptor {
            try descriptor.setNonblocking()
            call = CallNotifier(EventCounter(taking: descriptor))
        } else {
            call = nil
        }
        guard isRunning else { return }
        order(callOrder, call) { $0.setCall($1) }
    }

    /// Has the seat do what it is told last: however fast a front-end sends descriptors, one of each
    /// kind is on its way at most.
    private func order<Order: SendableMetatype>(
        _ latest: LatestOrder<Order>, _ order: Order,
        _ body: @escaping @Sendable (RingSeat, Order) -> Void
    ) {
        guard latest.put(order) else { return }
        seat.post { seat in
            if let order = latest.take() { body(seat, order) }
        }
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

extension Ring {
    /// Waits for kicks on another descriptor from now on.
    ///
    /// - Throws: the errno of a descriptor that cannot be waited for.
    func setKick(_ descriptor: consuming OwnedDescriptor) throws(Errno) {
        dropKick()
        let kick = try Kick(descriptor)
        // Tried here, where the front-end can still be told.
        let trial = try loop.add(
            kick.counter.descriptor.rawValue, interest: [], handler: NobodyWaits())
        loop.remove(trial)
        orderKick(.watch(kick, number: kickNumber))
    }

    /// Looks at the ring now and again, because there is no kick descriptor.
    func setPolled() {
        dropKick()
        orderKick(.poll)
    }

    /// Neither waits for kicks nor polls.
    func dropKick() {
        kickNumber += 1
        orderKick(.unwatch)
    }

    private func orderKick(_ kick: KickOrder) {
        order(kickOrder, kick) { $0.obey($1) }
    }

    /// The driver kicked while there was no queue; called by the seat.
    func kicked(_ number: Int) {
        if number == kickNumber && !isRunning { handler?.ringKicked(self) }
        seat.post { $0.kickWasSeen() }
    }
}

/// Hears nothing: for a descriptor that is only tried.
private final class NobodyWaits: EventHandler {
    func descriptorReady(_ readiness: Readiness, tag: Int) {}
}
