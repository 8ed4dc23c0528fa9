// SPDX-License-Identifier: Apache-2.0

/// A ring format, device side: the only code that knows how a ring is laid out.
///
/// Three positions run around a ring, each behind the one before it: where to fetch next, what was
/// taken (the queue knows the distance, see `rewind`), and where the next used buffer goes.
protocol Ring: ~Copyable {
    /// Goes on in a ring where the configuration says.
    ///
    /// - Parameters:
    ///   - configuration: its size is legal for the format.
    ///   - areas: where the ring lies.
    /// - Throws: the place to go on from is not in the ring.
    init(_ configuration: VirtqueueConfiguration, areas: RingAreas) throws(VirtqueueError)

    /// The longest chain that `fetch` may add.
    var longestChain: Int { get }

    /// Fills an empty batch with chains that the driver made available; stops before a chain that
    /// is wrong, and leaves the error in the batch.
    mutating func fetch(
        into batch: inout DescriptorBatch, memory: PinnedReference<RegionTable>)

    /// Moves the place to fetch from back, over buffers that were fetched and not used.
    mutating func rewind(buffers: Int, entries: Int)

    /// Writes a used buffer, which took up `entries` entries of the ring, where the driver does
    /// not look yet.
    mutating func put(id: UInt16, entries: Int, writtenLength: UInt32)

    /// Makes the used buffers visible to the driver.
    ///
    /// - Returns: how far the used position moved, 0 when nothing was put.
    mutating func publish() -> Int

    /// Whether the driver sees everything that was put.
    var isPublished: Bool { get }

    /// Whether the driver wants to be signalled, the used position having moved by `moved`, at
    /// least 1, since the last time this was asked.
    mutating func wantsSignal(moved: Int) -> Bool

    /// Asks the driver not to notify.
    mutating func suppressNotifications()

    /// Asks the driver to notify of buffers from the place to fetch from on.
    ///
    /// - Returns: whether there is one already.
    mutating func requestNotifications() -> Bool

    /// Whether there is something at the place to fetch from; a look and nothing more.
    var hasAvailable: Bool { get }

    /// The place to fetch from, and the used position, as GET_VRING_BASE encodes them.
    var base: UInt32 { get }

    /// The used position: split, the free-running index; packed, index and wrap counter.
    var usedIndex: UInt32 { get }

    /// Calls `body` with each stretch of guest memory that the last `publish` wrote, which
    /// returned `moved`.
    func forEachPublished(_ moved: Int, _ body: (GuestAddress, UInt64) -> Void)

    /// Calls `body` with each stretch that asking for notifications, or not to be notified, writes.
    func forEachNotificationField(_ body: (GuestAddress, UInt64) -> Void)

    /// The ring lies elsewhere in our memory now.
    mutating func move(to areas: RingAreas)
}
