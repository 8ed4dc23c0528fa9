// SPDX-License-Identifier: Apache-2.0

/// A place in a packed ring: an entry, and the wrap counter of the round (virtio 1.3 §2.8.1).
struct PackedPosition: Equatable {
    var index: Int
    /// True in the first round.
    var wrap: Bool

    /// As the wire has it: bits 0 to 14 the index, bit 15 the wrap counter.
    init(encoded: UInt16) {
        index = Int(encoded & 0x7fff)
        wrap = encoded & 0x8000 != 0
    }

    @inline(__always)
    init(index: Int, wrap: Bool) {
        self.index = index
        self.wrap = wrap
    }

    var encoded: UInt16 {
        UInt16(truncatingIfNeeded: index) | (wrap ? 0x8000 : 0)
    }

    /// Moves on by up to `size` entries.
    @inline(__always)
    mutating func advance(by entries: Int, size: Int) {
        index &+= entries
        if index >= size {
            index &-= size
            wrap.toggle()
        }
    }

    /// Moves back by up to `size` entries.
    @inline(__always)
    mutating func retreat(by entries: Int, size: Int) {
        index &-= entries
        if index < 0 {
            index &+= size
            wrap.toggle()
        }
    }

    /// Entries from here on to `other`, within two rounds.
    @inline(__always)
    func distance(to other: PackedPosition, size: Int) -> Int {
        let difference = other.index &- index &+ (other.wrap == wrap ? 0 : size)
        return difference < 0 ? difference &+ 2 &* size : difference
    }
}

/// A packed virtqueue, device side (virtio 1.3 §2.8).
///
/// One ring of descriptors, written by both sides: le64 address, le32 length, le16 id, le16 flags.
/// AVAIL and USED in the flags, compared with the wrap counter, say whose a descriptor is. The two
/// event suppression structures (le16 offset and wrap, le16 flags) say who wants to be told.
struct PackedRing: Ring, ~Copyable {
    private(set) var ring: SharedArea
    private(set) var driverEvent: SharedArea
    private(set) var deviceEvent: SharedArea
    private let ringAddress: GuestAddress
    private let deviceEventAddress: GuestAddress

    let size: Int
    /// VIRTIO_F_EVENT_IDX.
    private let hasEventIndex: Bool

    /// Where to fetch next.
    var nextAvailable: PackedPosition
    /// Where the next used descriptor goes.
    private(set) var nextUsed: PackedPosition
    /// Where the first used descriptor that the driver does not see yet goes.
    private(set) var publishedUsed: PackedPosition
    /// Second half of that descriptor, kept back so that the driver sees all or none.
    private var firstWord: UInt64 = 0
    /// Entries from `publishedUsed` to `nextUsed`.
    private var unpublished = 0

    var indirectTables: IndirectTables
    var longestChain: Int { size + indirectTables.limit }

    init(_ configuration: VirtqueueConfiguration, areas: RingAreas) throws(VirtqueueError) {
        ring = areas.descriptor
        driverEvent = areas.driver
        deviceEvent = areas.device
        ringAddress = configuration.descriptorArea
        deviceEventAddress = configuration.deviceArea
        size = configuration.size
        hasEventIndex = configuration.features.contains(.eventIndex)
        nextAvailable = PackedPosition(encoded: UInt16(truncatingIfNeeded: configuration.base))
        guard nextAvailable.index < size else {
            throw .baseOutOfRange(index: nextAvailable.index, size: size)
        }
        // A stopped ring is drained, so nothing lies between the two. Front-ends that keep 16 bits
        // have lost the upper half anyway.
        nextUsed = nextAvailable
        publishedUsed = nextUsed
        indirectTables = IndirectTables(configuration)
    }

    mutating func move(to areas: RingAreas) {
        ring = areas.descriptor
        driverEvent = areas.driver
        deviceEvent = areas.device
    }

    mutating func rewind(buffers: Int, entries: Int) {
        nextAvailable.retreat(by: entries, size: size)
    }

    var base: UInt32 { UInt32(nextAvailable.encoded) | usedIndex << 16 }
    var usedIndex: UInt32 { UInt32(nextUsed.encoded) }
}

// MARK: Used buffers (virtio 1.3 §2.8.6)

extension PackedRing {
    @inline(__always)
    mutating func put(id: UInt16, entries: Int, writtenLength: UInt32) {
        // A used descriptor's AVAIL and USED both equal the wrap counter; WRITE says that the
        // length counts.
        var flags = nextUsed.wrap ? PackedFlags.both : 0
        if writtenLength != 0 { flags |= UInt64(DescriptorFlags.write) }
        let word = UInt64(writtenLength) | UInt64(id) &<< 32 | flags &<< 48
        if unpublished == 0 {
            firstWord = word
        } else {
            // The driver does not look here before it has seen the first one.
            ring.store64(word, at: 16 &* nextUsed.index &+ 8)
        }
        unpublished &+= entries
        nextUsed.advance(by: entries, size: size)
    }

    @inline(__always)
    mutating func publish() -> Int {
        let moved = unpublished
        if moved == 0 { return 0 }
        // Releases the later descriptors, and whatever the device wrote into the buffers. Length,
        // id and flags are one store, so the driver cannot see the flags alone. x86-64: a plain
        // store. arm64: STLR.
        ring.storeReleasing64(firstWord, at: 16 &* publishedUsed.index &+ 8)
        publishedUsed = nextUsed
        unpublished = 0
        return moved
    }

    var isPublished: Bool { unpublished == 0 }

    func forEachPublished(_ moved: Int, _ body: (GuestAddress, UInt64) -> Void) {
        // More than the ring holds, when the driver offers places again that it has not seen used.
        if moved >= size { return body(ringAddress, UInt64(16 * size)) }
        var start = publishedUsed
        start.retreat(by: moved, size: size)
        let inThisRound = min(moved, size - start.index)
        body(entry(start.index), UInt64(16 * inThisRound))
        if moved > inThisRound { body(entry(0), UInt64(16 * (moved - inThisRound))) }
    }

    private func entry(_ index: Int) -> GuestAddress {
        // No overflow: the ring lies within a region.
        GuestAddress(ringAddress.rawValue &+ UInt64(16 * index))
    }
}

// MARK: Notifications (virtio 1.3 §2.8.10)

extension PackedRing {
    @inline(__always)
    mutating func wantsSignal(moved: Int) -> Bool {
        // The used descriptors must be visible before the driver's wish is read; a store followed
        // by a load, for which x86-64 needs the fence as arm64 does.
        fullFence()
        let wish = driverEvent.load32(at: 0)
        switch UInt16(truncatingIfNeeded: wish >> 16) & 3 {
        case PackedEvent.disable: return false
        case PackedEvent.descriptor where hasEventIndex: break
        default: return true
        }
        // Is the entry that it waits for among those that were used since the last time?
        let event = PackedPosition(encoded: UInt16(truncatingIfNeeded: wish))
        guard event.index < size, moved < size else { return true }
        var start = publishedUsed
        start.retreat(by: moved, size: size)
        return start.distance(to: event, size: size) < moved
    }

    @inline(__always)
    mutating func suppressNotifications() {
        deviceEvent.store16(PackedEvent.disable, at: PackedEvent.flagsOffset)
    }

    @inline(__always)
    mutating func requestNotifications() -> Bool {
        if hasEventIndex {
            deviceEvent.store16(nextAvailable.encoded, at: PackedEvent.positionOffset)
            // The driver must not see the flags with an old position. x86-64: stores stay in order.
            deviceEvent.storeReleasing16(PackedEvent.descriptor, at: PackedEvent.flagsOffset)
        } else {
            deviceEvent.store16(PackedEvent.enable, at: PackedEvent.flagsOffset)
        }
        // The request must be visible before we look once more; store then load again.
        fullFence()
        return hasAvailable
    }

    @inline(__always)
    var hasAvailable: Bool { isAvailable(ring.load64(at: 16 &* nextAvailable.index &+ 8)) }

    /// Whether a descriptor with these last eight bytes, at the place to fetch from, is available:
    /// AVAIL equals the wrap counter, USED does not, and we do not have it already.
    @inline(__always)
    private func isAvailable(_ word: UInt64) -> Bool {
        let isOurs = publishedUsed.distance(to: nextAvailable, size: size) >= size
        return !isOurs && word & PackedFlags.bothInWord == PackedFlags.available(nextAvailable.wrap)
    }

    func forEachNotificationField(_ body: (GuestAddress, UInt64) -> Void) {
        body(deviceEventAddress, 4)
    }
}

// MARK: Layout

/// AVAIL and USED (virtio 1.3 §2.8.1).
enum PackedFlags {
    /// VIRTQ_DESC_F_AVAIL and VIRTQ_DESC_F_USED, bits 7 and 15 of the flags.
    static var both: UInt64 { 0x8080 }
    /// The same, in the last eight bytes of a descriptor.
    static var bothInWord: UInt64 { 0x8080 << 48 }

    /// What the two are in an available descriptor, in its last eight bytes.
    @inline(__always)
    static func available(_ wrap: Bool) -> UInt64 { wrap ? 0x0080 << 48 : 0x8000 << 48 }
}

/// An event suppression structure (virtio 1.3 §2.8.10.1).
enum PackedEvent {
    static var positionOffset: Int { 0 }
    static var flagsOffset: Int { 2 }
    /// RING_EVENT_FLAGS_ENABLE.
    static var enable: UInt16 { 0 }
    /// RING_EVENT_FLAGS_DISABLE.
    static var disable: UInt16 { 1 }
    /// RING_EVENT_FLAGS_DESC.
    static var descriptor: UInt16 { 2 }
}
