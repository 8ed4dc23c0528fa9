// SPDX-License-Identifier: Apache-2.0

public import Virtio

/// The driver of a split virtqueue (virtio 1.3 §2.7).
///
///     struct virtq_desc  { le64 addr; le32 len; le16 flags; le16 next; }        16 bytes each
///     struct virtq_avail { le16 flags; le16 idx; le16 ring[size]; le16 used_event; }
///     struct virtq_used  { le16 flags; le16 idx; { le32 id; le32 len; } ring[size]; le16 avail_event; }
///
/// SAFETY: one thread at a time uses a driver, as its protocol demands.
public final class SplitDriver: RingDriver, @unchecked Sendable {
    public let format = RingFormat.split
    public let memory: TestMemory
    public let options: RingOptions
    public var onKick: (@Sendable () -> Void)?

    /// Where the three parts of the ring start.
    public let descriptorAddress: UInt64
    public let availableAddress: UInt64
    public let usedAddress: UInt64

    /// The parts of the ring, to look into and to corrupt.
    public let descriptorArea: SharedArea
    public let availableArea: SharedArea
    public let usedArea: SharedArea

    private var free: [UInt16] = []
    private var nextInOrder = 0
    private var inFlight: InFlightBuffers
    private var tables: IndirectTables
    private var reaped: [ReapedBuffer] = []
    private var addedIndex: UInt16 = 0
    private var publishedIndex: UInt16 = 0
    private var reapedIndex: UInt16 = 0

    /// Lays out a ring whose size is a power of two.
    public init(in memory: TestMemory, _ options: RingOptions) {
        self.memory = memory
        self.options = options
        let size = options.size
        let region = options.region
        let descriptorBytes = 16 * size
        let availableBytes = 6 + 2 * size
        let usedBytes = 6 + 8 * size
        descriptorAddress = memory.allocate(byteCount: descriptorBytes, inRegion: region)
        availableAddress = memory.allocate(byteCount: availableBytes, inRegion: region)
        usedAddress = memory.allocate(byteCount: usedBytes, inRegion: region)
        descriptorArea = memory.area(at: descriptorAddress, byteCount: descriptorBytes)
        availableArea = memory.area(at: availableAddress, byteCount: availableBytes)
        usedArea = memory.area(at: usedAddress, byteCount: usedBytes)
        inFlight = InFlightBuffers(size: size, inOrder: options.inOrder)
        tables = IndirectTables(memory: memory, region: region, size: size)
        reset(start: options.start)
    }

    public var features: UInt64 { options.features }

    public var configuration: VirtqueueConfiguration {
        VirtqueueConfiguration(
            size: size, descriptorArea: GuestAddress(descriptorAddress),
            driverArea: GuestAddress(availableAddress), deviceArea: GuestAddress(usedAddress),
            features: VirtioFeatures(rawValue: features), base: UInt32(publishedIndex))
    }

    public func reset(start: UInt32) {
        for area in [descriptorArea, availableArea, usedArea] {
            area.fill(0, at: 0, count: area.byteCount)
        }
        inFlight = InFlightBuffers(size: size, inOrder: options.inOrder)
        reaped = []
        free = (0..<size).reversed().map { UInt16($0) }
        nextInOrder = 0
        let index = UInt16(truncatingIfNeeded: start)
        addedIndex = index
        publishedIndex = index
        reapedIndex = index
        availableIndex = index
        usedArea.storeReleasing16(2, index)
        _ = requestSignals(after: 1)
    }

    // MARK: Buffers

    public var freeDescriptorCount: Int { free.count }
    public var inFlightCount: Int { inFlight.count + reaped.count }

    public func add(_ chain: Chain, tag: Int) -> UInt16? {
        let count = chain.ringDescriptorCount
        guard count > 0, count <= free.count else { return nil }
        let indices = takeFree(count)
        var descriptors = chain.descriptors()
        if descriptors.count > count || chain.placement == .indirect {
            moveTail(of: &descriptors, from: count - 1, id: indices[0])
        }
        write(descriptors, at: indices)
        remember(indices, chain: chain, tag: tag, isRaw: false)
        return indices[0]
    }

    public func addRaw(_ descriptors: [RawDescriptor]) -> UInt16 {
        precondition(
            !descriptors.isEmpty && descriptors.count <= free.count, "the ring has room")
        let indices = takeFree(descriptors.count)
        write(descriptors, at: indices)
        remember(indices, chain: Chain(), tag: 0, isRaw: true)
        return indices[0]
    }

    private func takeFree(_ count: Int) -> [UInt16] {
        if !options.inOrder {
            let taken = [UInt16](free.suffix(count).reversed())
            free.removeLast(count)
            return taken
        }
        // In order, descriptors are used in the order of the table (virtio 1.3 §2.7.5.1).
        free.removeLast(count)
        let first = nextInOrder
        nextInOrder = (nextInOrder + count) % size
        return (0..<count).map { UInt16((first + $0) % size) }
    }

    /// Puts the descriptors from `first` on into a table, and one that points to it in their place.
    private func moveTail(of descriptors: inout [RawDescriptor], from first: Int, id: UInt16) {
        let tail = descriptors[first...]
        let (address, area) = tables.table(id: id, count: tail.count)
        for (position, descriptor) in tail.enumerated() {
            write(descriptor, to: area, at: position, next: UInt16(position + 1))
        }
        descriptors.removeSubrange(first...)
        descriptors.append(
            RawDescriptor(
                address: address, length: UInt32(16 * tail.count), flags: RawDescriptor.indirect))
    }

    private func write(_ descriptors: [RawDescriptor], at indices: [UInt16]) {
        for position in indices.indices {
            let next = position + 1 < indices.count ? indices[position + 1] : 0
            write(
                descriptors[position], to: descriptorArea, at: Int(indices[position]), next: next)
        }
    }

    private func write(
        _ descriptor: RawDescriptor, to area: SharedArea, at index: Int, next: UInt16
    ) {
        area.store64(16 * index, descriptor.address)
        area.store32(16 * index + 8, descriptor.length)
        area.store16(16 * index + 12, descriptor.flags)
        area.store16(16 * index + 14, descriptor.link ?? next)
    }

    private func remember(_ indices: [UInt16], chain: Chain, tag: Int, isRaw: Bool) {
        setAvailable(at: addedIndex, to: indices[0])
        addedIndex &+= 1
        inFlight.insert(
            InFlightBuffers.Entry(
                chain: chain, tag: tag, descriptors: indices, descriptorCount: indices.count,
                isRaw: isRaw), id: indices[0])
    }

    public func publish() -> Bool {
        let before = publishedIndex
        publishedIndex = addedIndex
        availableIndex = addedIndex
        fullFence()
        guard before != addedIndex else { return false }
        guard options.eventIndex else { return usedArea.loadAcquiring16(0) & 1 == 0 }
        // Notify if the entry that avail_event names is among those published just now
        // (virtio 1.3 §2.7.10.1).
        return availableEvent &- before < addedIndex &- before
    }

    public var hasUsed: Bool { !reaped.isEmpty || usedIndex != reapedIndex }

    public func reap() throws(DeviceFault) -> ReapedBuffer? {
        if !reaped.isEmpty { return reaped.removeFirst() }
        let index = usedIndex
        guard index != reapedIndex else { return nil }
        guard Int(index &- reapedIndex) <= inFlight.count else {
            throw .usedIndexJump(from: reapedIndex, to: index)
        }
        let place = 4 + 8 * (Int(reapedIndex) % size)
        let id = usedArea.load32(place)
        let popped = try inFlight.remove(id: id, length: usedArea.load32(place + 4))
        guard popped.count <= Int(index &- reapedIndex) else {
            throw .outOfOrder(id: UInt16(truncatingIfNeeded: id))
        }
        reapedIndex &+= UInt16(popped.count)
        for (entry, _) in popped { free += entry.descriptors }
        if popped.count > 1 { reaped = popped.dropFirst().map(\.buffer) }
        return popped[0].buffer
    }

    // MARK: Notifications

    public func suppressSignals() {
        if options.eventIndex {
            // As far away as an index can be.
            usedEvent = reapedIndex &- 1
        } else {
            availableArea.storeReleasing16(0, 1)
        }
    }

    public func requestSignals(after count: Int) -> Bool {
        if options.eventIndex {
            usedEvent = reapedIndex &+ UInt16(truncatingIfNeeded: count - 1)
        } else {
            availableArea.storeReleasing16(0, 0)
        }
        fullFence()
        return hasUsed
    }

    public var notificationsAreSuppressed: Bool {
        guard options.eventIndex else { return usedArea.loadAcquiring16(0) & 1 != 0 }
        return availableEvent &- publishedIndex >= UInt16(truncatingIfNeeded: size)
    }
}

/// What stands in the ring, to look at and to corrupt.
extension SplitDriver {
    /// `avail->idx`, as the device sees it.
    public var availableIndex: UInt16 {
        get { availableArea.loadAcquiring16(2) }
        set { availableArea.storeReleasing16(2, newValue) }
    }

    /// `used->idx`.
    public var usedIndex: UInt16 { usedArea.loadAcquiring16(2) }

    /// `used_event`, behind the available ring.
    public var usedEvent: UInt16 {
        get { availableArea.loadAcquiring16(4 + 2 * size) }
        set { availableArea.storeReleasing16(4 + 2 * size, newValue) }
    }

    /// `avail_event`, behind the used ring.
    public var availableEvent: UInt16 { usedArea.loadAcquiring16(4 + 8 * size) }

    /// Writes an entry of the available ring; `index` is free running.
    public func setAvailable(at index: UInt16, to head: UInt16) {
        availableArea.store16(4 + 2 * (Int(index) % size), head)
    }

    /// The entry of the used ring at a free running index.
    public func used(at index: UInt16) -> (id: UInt32, length: UInt32) {
        let place = 4 + 8 * (Int(index) % size)
        return (usedArea.load32(place), usedArea.load32(place + 4))
    }

    /// Writes a descriptor, whoever uses it; `link` counts as 0 when it is nil.
    public func setDescriptor(at index: Int, to descriptor: RawDescriptor) {
        write(descriptor, to: descriptorArea, at: index, next: 0)
    }

    /// Counts `count` entries of the available ring, which something else wrote, as published.
    public func skipAvailable(_ count: UInt16) {
        addedIndex &+= count
        publishedIndex &+= count
    }

    /// Mixes the descriptors that are free, so that a chain jumps about in the table.
    public func shuffleFree(using generator: inout some RandomNumberGenerator) {
        free.shuffle(using: &generator)
    }
}
