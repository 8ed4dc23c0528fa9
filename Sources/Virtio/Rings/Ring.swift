// SPDX-License-Identifier: Apache-2.0

/// A ring format, device side: the only code that knows how a ring is laid out.
///
/// Three positions run around a ring, each behind the one before it: where to fetch next, what was
/// taken (the queue knows the distance, see `rewind`), and where the next used buffer goes.
protocol Ring: ~Copyable {
    /// - Parameters:
    ///   - configuration: checked by `RingAreas`.
    ///   - areas: where the ring lies.
    init(_ configuration: VirtqueueConfiguration, areas: RingAreas) throws(VirtqueueError)

    /// The longest chain that `fetch` may add.
    var longestChain: Int { get }

    /// Fills an empty batch with chains that the driver made available; stops before a chain that
    /// is wrong, and leaves the error in the batch.
    mutating func fetch(
        into batch: inout DescriptorBatch, memory: PinnedReference<RegionTable>)

    /// Moves the place to fetch from back, over buffers that were fetched and not used.
    mutating func rewind(buffers: Int, entries: Int)

    /// Writes a used buffer where the driver does not look yet.
    ///
    /// - Parameters:
    ///   - entries: ring entries that the buffer used; 1 to the size.
    mutating func put(id: UInt16, entries: Int, writtenLength: UInt32)

    /// Makes the used buffers visible to the driver.
    ///
    /// - Returns: how far the used position moved, 0 when nothing was put.
    mutating func publish() -> Int

    /// Whether the driver sees everything that was put.
    var isPublished: Bool { get }

    /// Whether the driver wants to be signalled.
    ///
    /// - Parameters:
    ///   - moved: how far the used position moved since the last time this was asked; at least 1.
    mutating func wantsSignal(moved: Int) -> Bool

    /// Asks the driver not to notify.
    mutating func suppressNotifications()

    /// Asks the driver to notify of buffers from the place to fetch from on.
    ///
    /// - Returns: whether there is one already.
    mutating func requestNotifications() -> Bool

    /// The place to fetch from, and the used position, as GET_VRING_BASE encodes them.
    var base: UInt32 { get }

    /// The used position: split, the free-running index; packed, index and wrap counter.
    var usedIndex: UInt32 { get }

    /// Calls `body` with each stretch of guest memory that the last `publish` wrote.
    ///
    /// - Parameters:
    ///   - moved: what `publish` returned.
    func forEachPublished(_ moved: Int, _ body: (GuestAddress, UInt64) -> Void)

    /// Calls `body` with each stretch that asking for notifications, or not to be notified, writes.
    func forEachNotificationField(_ body: (GuestAddress, UInt64) -> Void)

    /// The ring lies elsewhere in our memory now.
    mutating func move(to areas: RingAreas)
}
