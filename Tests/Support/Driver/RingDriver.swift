// SPDX-License-Identifier: Apache-2.0

public import Virtio

/// The two ways to lay out a virtqueue.
public enum RingFormat: String, CaseIterable, Codable, Sendable, CustomStringConvertible {
    case split
    case packed

    public var description: String { rawValue }

    /// Lays out a ring in guest memory.
    public func makeDriver(in memory: TestMemory, _ options: RingOptions) -> any RingDriver {
        switch self {
        case .split: SplitDriver(in: memory, options)
        case .packed: PackedDriver(in: memory, options)
        }
    }
}

/// What is chosen when a ring is laid out.
public struct RingOptions: Hashable, Sendable, CustomStringConvertible {
    /// Entries.
    public var size: Int
    /// How far the ring has run already: the free running index of a split ring (16 bits of it),
    /// the descriptors passed in a packed ring, whose first lap has wrap counter 1.
    public var start: UInt32
    /// VIRTIO_F_INDIRECT_DESC.
    public var indirect: Bool
    /// VIRTIO_F_EVENT_IDX.
    public var eventIndex: Bool
    /// VIRTIO_F_IN_ORDER.
    public var inOrder: Bool
    /// Where guest memory for the ring comes from.
    public var region: Int

    public init(
        size: Int = 256, start: UInt32 = 0, indirect: Bool = true, eventIndex: Bool = true,
        inOrder: Bool = false, region: Int = 0
    ) {
        self.size = size
        self.start = start
        self.indirect = indirect
        self.eventIndex = eventIndex
        self.inOrder = inOrder
        self.region = region
    }

    public var description: String {
        let flags = [(indirect, "indirect"), (eventIndex, "event index"), (inOrder, "in order")]
        return (["size \(size), start \(start)"] + flags.filter(\.0).map(\.1))
            .joined(separator: ", ")
    }

    /// VIRTIO_F_VERSION_1 and what was chosen, as feature bits.
    var features: UInt64 {
        (1 << 32) | (indirect ? 1 << 28 : 0) | (eventIndex ? 1 << 29 : 0) | (inOrder ? 1 << 35 : 0)
    }
}

/// A buffer that came back.
public struct ReapedBuffer: Hashable, Sendable {
    /// The head's index (split) or the buffer id (packed).
    public var id: UInt16
    /// Bytes that the device says it wrote.
    public var writtenLength: UInt32
    /// What was given with the buffer when it was added.
    public var tag: Int
    /// The buffer as it was added.
    public var chain: Chain
}

/// What the driver caught the device doing.
public enum DeviceFault: Error, Equatable {
    /// A buffer came back that is not in flight.
    case notInFlight(id: UInt32)
    /// The device claims to have written more than it may.
    case writtenTooMuch(id: UInt16, length: UInt32, limit: UInt64)
    /// The used index is further ahead than there are buffers in flight.
    case usedIndexJump(from: UInt16, to: UInt16)
    /// A buffer came back out of order although VIRTIO_F_IN_ORDER was negotiated.
    case outOfOrder(id: UInt16)
}

/// The guest's end of a virtqueue: the layouts of virtio 1.3 §2.7 and §2.8, word by word.
///
/// Nothing here is shared with the device, so that one checks the other. One thread at a time uses
/// a driver; which one may change.
public protocol RingDriver: AnyObject, Sendable {
    var format: RingFormat { get }
    var memory: TestMemory { get }
    var options: RingOptions { get }

    /// What a device has to know of the ring, the driver's place in it as the base (the first
    /// buffer that is not published yet).
    var configuration: VirtqueueConfiguration { get }

    /// Feature bits, the ring format among them.
    var features: UInt64 { get }

    /// Lays the ring out anew at `start`; whatever was in flight is forgotten.
    func reset(start: UInt32)

    // MARK: Buffers

    /// Ring entries that are free.
    var freeDescriptorCount: Int { get }
    /// Buffers that were added and not reaped.
    var inFlightCount: Int { get }

    /// Writes a buffer into the ring, which does not show it to the device before `publish`.
    ///
    /// - Returns: the buffer's id; nil when the ring has no room.
    func add(_ chain: Chain, tag: Int) -> UInt16?

    /// Writes descriptors with whatever in them, as one buffer.
    ///
    /// - Returns: the id of the buffer, which is in flight from now on.
    func addRaw(_ descriptors: [RawDescriptor]) -> UInt16

    /// Shows every buffer that was added to the device.
    ///
    /// - Returns: whether the device wants to be notified.
    func publish() -> Bool

    /// Whether there is a used buffer to reap.
    var hasUsed: Bool { get }

    /// Takes the next used buffer back; nil when there is none.
    func reap() throws(DeviceFault) -> ReapedBuffer?

    // MARK: Notifications

    /// Asks the device not to signal.
    func suppressSignals()

    /// Asks the device to signal as soon as `count` more buffers are used (with
    /// VIRTIO_F_EVENT_IDX; without it, at any used buffer).
    ///
    /// - Returns: whether there are used buffers already.
    @discardableResult
    func requestSignals(after count: Int) -> Bool

    /// Whether the device asks not to be notified of anything.
    var notificationsAreSuppressed: Bool { get }

    /// Called by `offer` and `kick` when the device wants to know.
    var onKick: (@Sendable () -> Void)? { get set }
}

extension RingDriver {
    /// The ring's entries.
    public var size: Int { options.size }

    /// Adds, publishes and kicks.
    @discardableResult
    public func offer(_ chain: Chain, tag: Int = 0) -> UInt16? {
        guard let id = add(chain, tag: tag) else { return nil }
        kick()
        return id
    }

    /// Adds, publishes and kicks: new segments with these bytes for the device to read, new ones of
    /// these lengths for it to write.
    @discardableResult
    public func offer(
        readable: [[UInt8]] = [], writable: [Int] = [], placement: Chain.Placement = .direct,
        tag: Int = 0
    ) -> UInt16? {
        let chain = Chain(
            readable: readable.map { memory.segment($0) },
            writable: writable.map { memory.segment(byteCount: $0) }, placement: placement)
        return offer(chain, tag: tag)
    }

    /// Adds and publishes descriptors with whatever in them, and kicks.
    @discardableResult
    public func offerRaw(_ descriptors: [RawDescriptor]) -> UInt16 {
        let id = addRaw(descriptors)
        kick()
        return id
    }

    /// Publishes what was added and kicks if the device wants it.
    public func kick() {
        if publish() { onKick?() }
    }

    /// Takes back every used buffer.
    public func reapAll() throws(DeviceFault) -> [ReapedBuffer] {
        var reaped: [ReapedBuffer] = []
        while let buffer = try reap() { reaped.append(buffer) }
        return reaped
    }

    /// What the device wrote into a buffer that came back, no further than it says.
    public func writtenBytes(of buffer: ReapedBuffer) -> [UInt8] {
        memory.read(buffer.chain.writable, count: Int(buffer.writtenLength))
    }

    /// Asks the device to signal at the next used buffer.
    @discardableResult
    public func requestSignals() -> Bool { requestSignals(after: 1) }

    /// A table of descriptors in guest memory, as an indirect one points to: at `address`, or in
    /// memory of its own.
    ///
    /// - Returns: a descriptor for the ring that points to the table.
    public func indirectTable(
        _ descriptors: [RawDescriptor], at address: UInt64? = nil
    ) -> RawDescriptor {
        let address = address ?? memory.allocate(byteCount: 16 * descriptors.count)
        for (position, descriptor) in descriptors.enumerated() {
            let place = address + 16 * UInt64(position)
            let link = descriptor.link ?? UInt16(truncatingIfNeeded: position + 1)
            memory.store(descriptor.address, at: place)
            memory.store(descriptor.length, at: place + 8)
            let last = format == .split ? [descriptor.flags, link] : [link, descriptor.flags]
            memory.store(last[0], at: place + 12)
            memory.store(last[1], at: place + 14)
        }
        return RawDescriptor(
            address: address, length: UInt32(16 * descriptors.count),
            flags: RawDescriptor.indirect)
    }
}
