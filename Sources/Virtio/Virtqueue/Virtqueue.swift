// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// A running virtqueue, device side: the buffer API, whatever the ring format.
///
/// One thread uses a queue. The order of a batch: `take` until there is nothing left, `put` what is
/// done, `flush` once, `signal` once. Every buffer that was taken is put, or handed back, exactly
/// once; a second time stops the program, and `outstandingCount` shows what is missing.
public final class Virtqueue {
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
        size = configuration.size
        features = configuration.features
        self.notifier = notifier
        self.memory = memory
    }

    /// Entries of the ring.
    public let size: Int
    /// What the driver negotiated.
    public let features: VirtioFeatures
    /// The memory that buffers lie in.
    public let memory: GuestMemory
    /// How the driver is signalled.
    ///
    /// May be exchanged at any time; see `notifierChanged`.
    public var notifier: (any DriverNotifier)?

    // MARK: Buffers

    /// Takes the next buffer; its pieces are appended to `pieces`.
    ///
    /// - Returns: nil when the driver has made no more buffers available.
    /// - Throws: what is wrong with the next buffer. The queue is then broken: every further call
    ///   throws the same. Buffers taken before may still be put.
    public func take(_ pieces: inout IOVectorArray) throws(VirtqueueError) -> Buffer? { nil }

    /// Gives a buffer back to the driver as used; published by `flush`.
    public func put(_ used: UsedBuffer) {}

    /// Gives n buffers back as used, in this order; published by `flush`.
    public func put(_ used: Span<UsedBuffer>) {}

    /// Hands back the last `count` buffers that were taken, as if they never had been: they will be
    /// taken again, in the same order.
    ///
    /// None of them may have been put.
    public func handBack(_ count: Int) {}

    /// Publishes what was put since the last flush, all at once.
    public func flush() {}

    /// Signals the driver if it asked to be signalled for what was published since the last time.
    public func signal() {}

    /// Buffers that were taken and neither put nor handed back.
    public var outstandingCount: Int { 0 }

    // MARK: Notifications from the driver

    /// Asks the driver not to notify, while the device looks at the ring anyway.
    public func suppressNotifications() {}

    /// Asks the driver to notify again.
    ///
    /// - Returns: whether buffers have become available in the meantime, so that nothing is missed:
    ///   then take them (and suppress again).
    public func requestNotifications() -> Bool { false }

    // MARK: Stopping

    /// Where a successor would go on, as GET_VRING_BASE reports it: the first buffer that was not
    /// taken, whatever was prefetched.
    public var base: UInt32 { 0 }

    /// Why the queue is broken; nil while it is not.
    public var breakage: VirtqueueError? { nil }

    /// Calls `body` as soon as no buffer is outstanding and everything put has been flushed: now,
    /// or from within a later `flush`.
    public func whenDrained(_ body: @escaping () -> Void) {}

    /// Signals the new notifier once when something was published that the driver may not have
    /// been told of (SET_VRING_CALL on a running ring).
    public func notifierChanged() {}

    /// Journal of the buffers in flight, so that a successor can take up after a crash; nil for none.
    public var journal: (any InflightJournal)?
}

/// How the driver is signalled: an eventfd that the front-end gave.
public protocol DriverNotifier: AnyObject {
    /// Signals the driver: used buffers are there.
    func notifyDriver()
}

/// Records which buffers are in flight, where a successor of a crashed back-end finds it.
public protocol InflightJournal: AnyObject {
    /// A buffer was taken, before the device acts on it.
    func bufferTaken(id: UInt16, descriptorCount: UInt16)
    /// Buffers are about to be published as used.
    func willPublish(_ used: Span<UsedBuffer>)
    /// Those buffers have been published; the used index is now `usedIndex`.
    func didPublish(_ used: Span<UsedBuffer>, usedIndex: UInt32)
}
