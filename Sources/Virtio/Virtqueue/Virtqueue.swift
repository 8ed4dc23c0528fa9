// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// A running virtqueue, device side: the buffer API, whatever the ring format.
///
/// One thread uses a queue. The order of a batch: `take` until there is nothing left, `put` what is
/// done, `flush` once, `signal` once. Every buffer that was taken is put, or handed back, exactly
/// once; a second time stops the program, and `outstandingCount` shows what is missing.
public final class Virtqueue {
    /// Entries of the ring.
    public let size: Int
    /// What the driver negotiated.
    public let features: VirtioFeatures
    /// The memory that buffers lie in.
    public let memory: GuestMemory

    let configuration: VirtqueueConfiguration
    let core: FormatCore
    /// Behind a pointer, as the core is: a `var` here would be checked for exclusivity.
    private let state: Pinned<State>

    /// What is not the core's.
    private struct State: ~Copyable {
        var notifier: Hook<any DriverNotifier>
        var drainWaiters: [() -> Void] = []
        var breakageHandler: ((VirtqueueError) -> Void)?
    }

    /// Checks the configuration and maps the ring.
    ///
    /// - Parameters:
    ///   - configuration: from the wire.
    ///   - memory: kept until the queue goes.
    ///   - notifier: how the driver is signalled; nil when it never wants to be.
    /// - Throws: what is wrong with the configuration, with the limit.
    public init(
        _ configuration: VirtqueueConfiguration, memory: GuestMemory,
        notifier: (any DriverNotifier)?
    ) throws(VirtqueueError) {
        core = try FormatCore(configuration, memory: memory.table.reference)
        state = Pinned(State(notifier: Hook(notifier)))
        self.configuration = configuration
        size = configuration.size
        features = configuration.features
        self.memory = memory
    }

    // MARK: Buffers

    /// Takes the next buffer; its pieces are appended to `pieces`.
    ///
    /// - Returns: nil when the driver has made no more buffers available.
    /// - Throws: what is wrong with the next buffer. The queue is then broken: every further call
    ///   throws the same. Buffers taken before may still be put.
    public func take(_ pieces: inout IOVectorArray) throws(VirtqueueError) -> Buffer? {
        let buffer = core.take(&pieces)
        if buffer == nil, let breakage {
            reportBreakage(breakage)
            throw breakage
        }
        return buffer
    }

    /// Calls `body` once, from within the `take` that finds the queue broken: a device may look at a
    /// queue long after its driver's last notification.
    public func whenBroken(_ body: @escaping (VirtqueueError) -> Void) {
        state.value.breakageHandler = body
    }

    @inline(never)
    private func reportBreakage(_ breakage: VirtqueueError) {
        let body = state.value.breakageHandler
        state.value.breakageHandler = nil
        body?(breakage)
    }

    /// Gives a buffer back to the driver as used; published by `flush`.
    public func put(_ used: UsedBuffer) {
        core.put(used)
    }

    /// Gives n buffers back as used, in this order; published by `flush`.
    public func put(_ used: Span<UsedBuffer>) {
        switch core {
        case .split(let queue): for index in used.indices { queue.value.put(used[index]) }
        case .packed(let queue): for index in used.indices { queue.value.put(used[index]) }
        }
    }

    /// Hands back the last `count` buffers that were taken, as if they never had been: they will be
    /// taken again, in the same order.
    ///
    /// None of them may have been put.
    public func handBack(_ count: Int) {
        switch core {
        case .split(let queue): queue.value.handBack(count)
        case .packed(let queue): queue.value.handBack(count)
        }
        callDrainWaiters()
    }

    /// Publishes what was put since the last flush, all at once.
    public func flush() {
        let isDrainAwaited =
            switch core {
            case .split(let queue): queue.value.flush()
            case .packed(let queue): queue.value.flush()
            }
        if isDrainAwaited { callDrainWaiters() }
    }

    /// Signals the driver if it asked to be signalled for what was published since the last time.
    public func signal() {
        let isWanted =
            switch core {
            case .split(let queue): queue.value.takeSignal()
            case .packed(let queue): queue.value.takeSignal()
            }
        if isWanted { state.value.notifier.withTarget { $0.notifyDriver() } }
    }

    /// Buffers that were taken and neither put nor handed back.
    public var outstandingCount: Int {
        switch core {
        case .split(let queue): queue.value.outstandingCount
        case .packed(let queue): queue.value.outstandingCount
        }
    }

    // MARK: Notifications from the driver

    /// Asks the driver not to notify, while the device looks at the ring anyway.
    public func suppressNotifications() {
        switch core {
        case .split(let queue): queue.value.suppressNotifications()
        case .packed(let queue): queue.value.suppressNotifications()
        }
    }

    /// Asks the driver to notify again.
    ///
    /// - Returns: whether buffers have become available in the meantime, so that nothing is missed:
    ///   then take them (and suppress again). Never true for a broken queue.
    public func requestNotifications() -> Bool {
        switch core {
        case .split(let queue): queue.value.requestNotifications()
        case .packed(let queue): queue.value.requestNotifications()
        }
    }

    /// Whether buffers are available, or an error is; never so for a broken queue.
    ///
    /// A look at the ring and nothing more, for whoever polls.
    public var hasAvailable: Bool {
        switch core {
        case .split(let queue): queue.value.hasAvailable
        case .packed(let queue): queue.value.hasAvailable
        }
    }

    // MARK: Notifying the driver

    /// How the driver is signalled.
    ///
    /// May be exchanged at any time, except from within the notifier; see `notifierChanged`.
    public var notifier: (any DriverNotifier)? {
        get { state.value.notifier.target }
        set { state.value.notifier = Hook(newValue) }
    }

    /// Signals the new notifier once when something was published that the driver may not have
    /// been told of (SET_VRING_CALL on a running ring).
    ///
    /// That is the case as soon as anything was ever used in this ring, by a predecessor too: so
    /// after a start it recovers a signal that a crash has swallowed.
    public func notifierChanged() {
        let isUsed =
            switch core {
            case .split(let queue): queue.value.everPublished
            case .packed(let queue): queue.value.everPublished
            }
        if isUsed { state.value.notifier.withTarget { $0.notifyDriver() } }
    }

    // MARK: Stopping

    /// Where a successor would go on, as GET_VRING_BASE reports it: the first buffer that was not
    /// taken, whatever was prefetched.
    public var base: UInt32 {
        switch core {
        case .split(let queue): queue.value.base
        case .packed(let queue): queue.value.base
        }
    }

    /// Why the queue is broken; nil while it is not.
    public var breakage: VirtqueueError? {
        switch core {
        case .split(let queue): queue.value.breakage
        case .packed(let queue): queue.value.breakage
        }
    }

    /// Calls `body` as soon as no buffer is outstanding and everything put has been flushed: now,
    /// or from within a later `flush` or `handBack`.
    public func whenDrained(_ body: @escaping () -> Void) {
        state.value.drainWaiters.append(body)
        setDrainAwaited(true)
        callDrainWaiters()
    }

    @inline(never)
    private func callDrainWaiters() {
        let isDrained =
            switch core {
            case .split(let queue): queue.value.isDrained
            case .packed(let queue): queue.value.isDrained
            }
        let waiters = state.value.drainWaiters
        guard isDrained, !waiters.isEmpty else { return }
        state.value.drainWaiters = []
        setDrainAwaited(false)
        for body in waiters { body() }
    }

    private func setDrainAwaited(_ isAwaited: Bool) {
        switch core {
        case .split(let queue): queue.value.care.isDrainAwaited = isAwaited
        case .packed(let queue): queue.value.care.isDrainAwaited = isAwaited
        }
    }
}
