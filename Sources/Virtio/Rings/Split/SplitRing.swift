// SPDX-License-Identifier: Apache-2.0

/// A split virtqueue, device side (virtio 1.3 §2.7).
///
/// - Descriptor table: 16 bytes an entry: le64 address, le32 length, le16 flags, le16 next.
/// - Available ring, written by the driver: le16 flags, le16 idx, le16 ring[size], le16 used_event.
/// - Used ring, written by us: le16 flags, le16 idx, {le32 id, le32 len} ring[size], le16
///   avail_event.
///
/// Both indices run freely from 0 to 65535; an entry is at the index modulo the size, which is a
/// power of two.
struct SplitRing: Ring, ~Copyable {
    private(set) var table: SharedArea
    private(set) var available: SharedArea
    private(set) var used: SharedArea
    private let usedAddress: GuestAddress

    let size: Int
    /// Size minus one.
    let mask: UInt16
    /// VIRTIO_F_EVENT_IDX.
    let hasEventIndex: Bool
    /// VIRTIO_F_NOTIFY_ON_EMPTY.
    private let notifiesOnEmpty: Bool

    /// The available index to fetch next.
    var nextAvailable: UInt16
    /// The used index to write next.
    private(set) var nextUsed: UInt16
    /// The used index that the driver sees.
    private var publishedUsed: UInt16

    var indirectTables: IndirectTables
    var longestChain: Int { size + indirectTables.limit }

    init(_ configuration: VirtqueueConfiguration, areas: RingAreas) throws(VirtqueueError) {
        table = areas.descriptor
        available = areas.driver
        used = areas.device
        usedAddress = configuration.deviceArea
        size = configuration.size
        mask = UInt16(truncatingIfNeeded: size - 1)
        hasEventIndex = configuration.features.contains(.eventIndex)
        notifiesOnEmpty = configuration.features.contains(.notifyOnEmpty)
        // Old front-ends leave junk above bit 15.
        nextAvailable = UInt16(truncatingIfNeeded: configuration.base)
        // Where the predecessor stopped: only the ring itself knows.
        nextUsed = areas.device.load16(at: Self.indexOffset)
        publishedUsed = nextUsed
        indirectTables = IndirectTables(configuration)
    }

    mutating func move(to areas: RingAreas) {
        table = areas.descriptor
        available = areas.driver
        used = areas.device
    }

    mutating func rewind(buffers: Int, entries: Int) {
        nextAvailable &-= UInt16(truncatingIfNeeded: buffers)
    }

    var base: UInt32 { UInt32(nextAvailable) }
    var usedIndex: UInt32 { UInt32(nextUsed) }

    /// Buffers that were put and not published.
    @inline(__always)
    var unpublishedCount: Int { Int(nextUsed &- publishedUsed) }
}

// MARK: Used buffers

extension SplitRing {
    @inline(__always)
    mutating func put(id: UInt16, entries: Int, writtenLength: UInt32) {
        let element = UInt64(id) | UInt64(writtenLength) &<< 32
        used.storeUnaligned64(element, at: Self.usedOffset(nextUsed & mask))
        nextUsed &+= 1
    }

    @inline(__always)
    mutating func publish() -> Int {
        let moved = nextUsed &- publishedUsed
        if moved == 0 { return 0 }
        // Releases the elements, and whatever the device wrote into the buffers. x86-64: a plain
        // store. arm64: STLRH.
        used.storeReleasing16(nextUsed, at: Self.indexOffset)
        publishedUsed = nextUsed
        return Int(moved)
    }

    var isPublished: Bool { nextUsed == publishedUsed }

    func forEachPublished(_ moved: Int, _ body: (GuestAddress, UInt64) -> Void) {
        let end = Int(publishedUsed & mask)
        let start = Int((publishedUsed &- UInt16(truncatingIfNeeded: moved)) & mask)
        if start < end && moved < size {
            body(usedField(4 + 8 * start), UInt64(8 * (end - start)))
        } else {
            body(usedField(4 + 8 * start), UInt64(8 * (size - start)))
            if end > 0 { body(usedField(4), UInt64(8 * end)) }
        }
        body(usedField(Self.indexOffset), 2)
    }

    private func usedField(_ offset: Int) -> GuestAddress {
        // No overflow: the ring lies within a region.
        GuestAddress(usedAddress.rawValue &+ UInt64(offset))
    }
}

// MARK: Notifications (virtio 1.3 §2.7.7, §2.7.10)

extension SplitRing {
    @inline(__always)
    mutating func wantsSignal(moved: Int) -> Bool {
        // The used index must be visible before used_event or the flags are read: otherwise we
        // could miss that the driver asks, and it could miss that there is something. A store
        // followed by a load: x86-64 needs the fence as arm64 does.
        fullFence()
        if notifiesOnEmpty && available.load16(at: Self.indexOffset) == nextAvailable {
            return true
        }
        guard hasEventIndex else {
            return available.load16(at: Self.flagsOffset) & Self.noInterrupt == 0
        }
        // The driver wants to hear of the buffer at index used_event; was it among the last ones?
        let event = available.load16(at: availableEventOffset)
        return moved > Int(UInt16.max) || Int(publishedUsed &- event &- 1) < moved
    }

    @inline(__always)
    mutating func suppressNotifications() {
        // With the event index, the driver notifies once at most: an old index suffices.
        if !hasEventIndex { used.store16(Self.noNotify, at: Self.flagsOffset) }
    }

    @inline(__always)
    mutating func requestNotifications() -> Bool {
        if hasEventIndex {
            used.store16(nextAvailable, at: usedEventOffset)
        } else {
            used.store16(0, at: Self.flagsOffset)
        }
        // The request must be visible before we look once more; store then load again.
        fullFence()
        return hasAvailable
    }

    @inline(__always)
    var hasAvailable: Bool { available.load16(at: Self.indexOffset) != nextAvailable }

    func forEachNotificationField(_ body: (GuestAddress, UInt64) -> Void) {
        body(usedField(hasEventIndex ? usedEventOffset : Self.flagsOffset), 2)
    }
}

// MARK: Layout, in bytes (virtio 1.3 §2.7.6, §2.7.8)

extension SplitRing {
    static var flagsOffset: Int { 0 }
    static var indexOffset: Int { 2 }

    /// VIRTQ_AVAIL_F_NO_INTERRUPT.
    private static var noInterrupt: UInt16 { 1 }
    /// VIRTQ_USED_F_NO_NOTIFY.
    private static var noNotify: UInt16 { 1 }

    @inline(__always)
    static func availableOffset(_ slot: UInt16) -> Int { 4 &+ 2 &* Int(slot) }
    @inline(__always)
    static func usedOffset(_ slot: UInt16) -> Int { 4 &+ 8 &* Int(slot) }

    /// The available ring's used_event.
    @inline(__always)
    private var availableEventOffset: Int { 4 &+ 2 &* size }
    /// The used ring's avail_event.
    @inline(__always)
    private var usedEventOffset: Int { 4 &+ 8 &* size }
}
