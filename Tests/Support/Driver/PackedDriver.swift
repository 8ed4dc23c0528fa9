// SPDX-License-Identifier: Apache-2.0

public import Virtio

/// The driver of a packed virtqueue (virtio 1.3 §2.8).
///
///     struct pvirtq_desc           { le64 addr; le32 len; le16 id; le16 flags; }   16 bytes each
///     struct pvirtq_event_suppress { le16 desc (offset 15 bits, wrap 1 bit); le16 flags (2 bits); }
///
/// A position counts descriptors since wrap counter 1 began its first lap, so that
/// `position % size` is the place in the ring and an even lap has wrap counter 1.
///
/// SAFETY: one thread at a time uses a driver, as its protocol demands.
public final class PackedDriver: RingDriver, @unchecked Sendable {
    public let format = RingFormat.packed
    public let memory: TestMemory
    public let options: RingOptions
    public var onKick: (@Sendable () -> Void)?

    /// Where the three parts of the ring start.
    public let descriptorAddress: UInt64
    public let driverEventAddress: UInt64
    public let deviceEventAddress: UInt64

    /// The parts of the ring, to look into and to corrupt.
    public let descriptorArea: SharedArea
    public let driverEventArea: SharedArea
    public let deviceEventArea: SharedArea

    /// VIRTQ_DESC_F_AVAIL.
    public static let available: UInt16 = 1 << 7
    /// VIRTQ_DESC_F_USED.
    public static let used: UInt16 = 1 << 15

    private var freeIDs: [UInt16] = []
    private var nextInOrder: UInt16 = 0
    private var inFlight: InFlightBuffers
    private var tables: IndirectTables
    private var reaped: [ReapedBuffer] = []
    /// Where the next descriptor goes, published or not.
    private var addedPosition = 0
    private var publishedPosition = 0
    private var reapedPosition = 0
    /// The flags of the first descriptor that is not published, which hide all after it.
    private var heldFlags: UInt16?

    /// Lays out a ring of any size.
    public init(in memory: TestMemory, _ options: RingOptions) {
        self.memory = memory
        self.options = options
        let region = options.region
        let byteCount = 16 * options.size
        descriptorAddress = memory.allocate(byteCount: byteCount, inRegion: region)
        driverEventAddress = memory.allocate(byteCount: 4, inRegion: region)
        deviceEventAddress = memory.allocate(byteCount: 4, inRegion: region)
        descriptorArea = memory.area(at: descriptorAddress, byteCount: byteCount)
        driverEventArea = memory.area(at: driverEventAddress, byteCount: 4)
        deviceEventArea = memory.area(at: deviceEventAddress, byteCount: 4)
        inFlight = InFlightBuffers(size: options.size, inOrder: options.inOrder)
        tables = IndirectTables(memory: memory, region: region, size: options.size)
        reset(start: options.start)
    }

    public var features: UInt64 { options.features | 1 << 34 }

    public var configuration: VirtqueueConfiguration {
        let available = offsetAndWrap(of: publishedPosition)
        return VirtqueueConfiguration(
            size: size, descriptorArea: GuestAddress(descriptorAddress),
            driverArea: GuestAddress(driverEventAddress),
            deviceArea: GuestAddress(deviceEventAddress),
            features: VirtioFeatures(rawValue: features),
            base: UInt32(available) | UInt32(available) << 16)
    }

    public func reset(start: UInt32) {
        inFlight = InFlightBuffers(size: size, inOrder: options.inOrder)
        reaped = []
        freeIDs = (0..<size).reversed().map { UInt16($0) }
        nextInOrder = 0
        heldFlags = nil
        addedPosition = Int(start) % (2 * size)
        publishedPosition = addedPosition
        reapedPosition = addedPosition
        for area in [descriptorArea, driverEventArea, deviceEventArea] {
            area.fill(0, at: 0, count: area.byteCount)
        }
        // Each place was used in the lap before: this one for those behind us, the last one for
        // those ahead (virtio 1.3 §2.8.1).
        for place in 0..<size {
            let wrap = wrap(of: addedPosition) != (place >= addedPosition % size)
            setFlags(at: place, to: wrap ? Self.available | Self.used : 0)
        }
    }

    private func wrap(of position: Int) -> Bool { position / size % 2 == 0 }

    private func offsetAndWrap(of position: Int) -> UInt16 {
        UInt16(position % size) | (wrap(of: position) ? 0x8000 : 0)
    }

    // MARK: Buffers

    public var freeDescriptorCount: Int { size - (addedPosition - reapedPosition) }
    public var inFlightCount: Int { inFlight.count + reaped.count }

    public func add(_ chain: Chain, tag: Int) -> UInt16? {
        let count = chain.ringDescriptorCount
        guard count > 0, count <= freeDescriptorCount else { return nil }
        let id = takeID()
        var descriptors = chain.descriptors()
        if descriptors.count > count || chain.placement == .indirect {
            moveTail(of: &descriptors, from: count - 1, id: id)
        }
        write(descriptors, id: id)
        inFlight.insert(
            InFlightBuffers.Entry(
                chain: chain, tag: tag, descriptors: [], descriptorCount: count, isRaw: false),
            id: id)
        return id
    }

    public func addRaw(_ descriptors: [RawDescriptor]) -> UInt16 {
        precondition(
            !descriptors.isEmpty && descriptors.count <= freeDescriptorCount, "the ring has room")
        let id = takeID()
        write(descriptors, id: id)
        inFlight.insert(
            InFlightBuffers.Entry(
                chain: Chain(), tag: 0, descriptors: [], descriptorCount: descriptors.count,
                isRaw: true), id: id)
        return id
    }

    private func takeID() -> UInt16 {
        let id = freeIDs.removeLast()
        guard options.inOrder else { return id }
        defer { nextInOrder = (nextInOrder + 1) % UInt16(truncatingIfNeeded: size) }
        return nextInOrder
    }

    /// Puts the descriptors from `first` on into a table, and one that points to it in their place.
    private func moveTail(of descriptors: inout [RawDescriptor], from first: Int, id: UInt16) {
        let tail = descriptors[first...]
        let (address, area) = tables.table(id: id, count: tail.count)
        for (position, descriptor) in tail.enumerated() {
            area.store64(16 * position, descriptor.address)
            area.store32(16 * position + 8, descriptor.length)
            // In a table, no flag but VIRTQ_DESC_F_WRITE means anything (virtio 1.3 §2.8.7).
            area.store16(16 * position + 12, 0)
            area.store16(16 * position + 14, descriptor.flags & RawDescriptor.write)
        }
        descriptors.removeSubrange(first...)
        descriptors.append(
            RawDescriptor(
                address: address, length: UInt32(16 * tail.count), flags: RawDescriptor.indirect))
    }

    private func write(_ descriptors: [RawDescriptor], id: UInt16) {
        let head = addedPosition
        for (offset, descriptor) in descriptors.enumerated() {
            let position = head + offset
            let place = 16 * (position % size)
            descriptorArea.store64(place, descriptor.address)
            descriptorArea.store32(place + 8, descriptor.length)
            descriptorArea.store16(place + 12, descriptor.link ?? id)
            if offset > 0 { setFlags(at: position, to: flags(descriptor.flags, position)) }
        }
        addedPosition += descriptors.count
        if head == publishedPosition {
            heldFlags = flags(descriptors[0].flags, head)
        } else {
            setFlags(at: head, to: flags(descriptors[0].flags, head))
        }
    }

    /// Flags that make a descriptor available at a position: VIRTQ_DESC_F_AVAIL as the wrap
    /// counter, VIRTQ_DESC_F_USED the inverse.
    private func flags(_ flags: UInt16, _ position: Int) -> UInt16 {
        flags | (wrap(of: position) ? Self.available : Self.used)
    }

    public func publish() -> Bool {
        let before = publishedPosition
        if let flags = heldFlags { setFlags(at: before, to: flags) }
        heldFlags = nil
        publishedPosition = addedPosition
        fullFence()
        guard before != addedPosition else { return false }
        let event = deviceEventArea.loadAcquiring32(0)
        switch event >> 16 & 3 {
        case 0: return true
        case 2 where options.eventIndex:
            return contains(
                UInt16(truncatingIfNeeded: event), from: before, to: addedPosition)
        default: return false
        }
    }

    /// Whether the descriptor that an event structure names lies among some positions
    /// (virtio 1.3 §2.8.10).
    private func contains(_ event: UInt16, from first: Int, to end: Int) -> Bool {
        let offset = Int(event & 0x7FFF)
        let lap = first / size
        return [lap, lap + 1, lap + 2].contains { lap in
            let position = lap * size + offset
            return offset < size && wrap(of: position) == (event >> 15 == 1)
                && position >= first && position < end
        }
    }

    public var hasUsed: Bool {
        if !reaped.isEmpty { return true }
        guard inFlight.count > 0 else { return false }
        let flags = flags(at: reapedPosition)
        let wrap = wrap(of: reapedPosition)
        return (flags & Self.available != 0) == wrap && (flags & Self.used != 0) == wrap
    }

    public func reap() throws(DeviceFault) -> ReapedBuffer? {
        if !reaped.isEmpty { return reaped.removeFirst() }
        guard hasUsed else { return nil }
        let place = 16 * (reapedPosition % size)
        let id = descriptorArea.load16(place + 12)
        // Without VIRTQ_DESC_F_WRITE the length says nothing (virtio 1.3 §2.8.5).
        let isWritten = flags(at: reapedPosition) & RawDescriptor.write != 0
        let length = isWritten ? descriptorArea.load32(place + 8) : 0
        let popped = try inFlight.remove(id: UInt32(id), length: length)
        for (entry, buffer) in popped {
            reapedPosition += entry.descriptorCount
            freeIDs.append(buffer.id)
        }
        if popped.count > 1 { reaped = popped.dropFirst().map(\.buffer) }
        return popped[0].buffer
    }

    // MARK: Notifications

    public func suppressSignals() {
        driverEventArea.storeReleasing16(2, 1)
    }

    public func requestSignals(after count: Int) -> Bool {
        if options.eventIndex {
            driverEventArea.store16(0, offsetAndWrap(of: reapedPosition + count - 1))
            driverEventArea.storeReleasing16(2, 2)
        } else {
            driverEventArea.storeReleasing16(2, 0)
        }
        fullFence()
        return hasUsed
    }

    public var notificationsAreSuppressed: Bool { deviceEvent.flags & 3 == 1 }
}

/// What stands in the ring, to look at and to corrupt.
extension PackedDriver {
    /// The flags of the descriptor at a position.
    public func flags(at position: Int) -> UInt16 {
        descriptorArea.loadAcquiring16(16 * (position % size) + 14)
    }

    /// Sets the flags of the descriptor at a position, whoever uses it.
    public func setFlags(at position: Int, to flags: UInt16) {
        descriptorArea.storeReleasing16(16 * (position % size) + 14, flags)
    }

    /// Writes a descriptor, its flags last, whoever uses it; `link` counts as 0 when it is nil.
    public func setDescriptor(at position: Int, to descriptor: RawDescriptor) {
        let place = 16 * (position % size)
        descriptorArea.store64(place, descriptor.address)
        descriptorArea.store32(place + 8, descriptor.length)
        descriptorArea.store16(place + 12, descriptor.link ?? 0)
        setFlags(at: position, to: descriptor.flags)
    }

    /// Where the next buffer goes.
    public var nextPosition: Int { addedPosition }

    /// What the device wants to be notified of.
    public var deviceEvent: (offsetAndWrap: UInt16, flags: UInt16) {
        (deviceEventArea.loadAcquiring16(0), deviceEventArea.loadAcquiring16(2))
    }

    /// What the driver wants to be signalled for.
    public var driverEvent: (offsetAndWrap: UInt16, flags: UInt16) {
        get { (driverEventArea.loadAcquiring16(0), driverEventArea.loadAcquiring16(2)) }
        set {
            driverEventArea.store16(0, newValue.offsetAndWrap)
            driverEventArea.storeReleasing16(2, newValue.flags)
        }
    }

    /// Mixes the buffer ids that are free.
    public func shuffleFree(using generator: inout some RandomNumberGenerator) {
        freeIDs.shuffle(using: &generator)
    }
}
