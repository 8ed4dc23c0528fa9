// SPDX-License-Identifier: Apache-2.0

import Driver
import Glibc
import LinuxIO
import Testing
import Virtio

/// A driver and a device around one ring.
final class RingContext {
    let memory: TestMemory
    let driver: any RingDriver
    let deviceMemory: GuestMemory
    let notifier = SignalCounter()
    private(set) var queue: Virtqueue
    /// Buffers that the device has taken, and neither put nor handed back.
    private(set) var taken: [Buffer] = []
    private var pieces = IOVectorArray(capacity: 1)

    init(
        _ format: RingFormat, _ options: RingOptions, in memory: TestMemory? = nil,
        logsRing: Bool = false
    ) throws {
        let memory = try memory ?? TestMemory()
        self.memory = memory
        driver = format.makeDriver(in: memory, options)
        deviceMemory = try memory.deviceMemory()
        var configuration = driver.configuration
        configuration.logsRing = logsRing
        queue = try Virtqueue(configuration, memory: deviceMemory, notifier: notifier)
    }

    /// Starts a new device on the same ring, from a base.
    func restart(base: UInt32) throws {
        var configuration = driver.configuration
        configuration.base = base
        queue = try Virtqueue(configuration, memory: deviceMemory, notifier: notifier)
        taken = []
        pieces.removeAll()
    }

    /// Starts a new device on the same ring where the last one stopped.
    func restart() throws {
        try restart(base: queue.base)
    }

    // MARK: The device's side

    /// Takes the next buffer.
    @discardableResult
    func take() throws(VirtqueueError) -> Buffer? {
        guard let buffer = try queue.take(&pieces) else { return nil }
        taken.append(buffer)
        return buffer
    }

    /// Takes up to `count` buffers.
    @discardableResult
    func take(_ count: Int) throws(VirtqueueError) -> [Buffer] {
        var buffers: [Buffer] = []
        while buffers.count < count, let buffer = try take() { buffers.append(buffer) }
        return buffers
    }

    /// Takes every buffer that is there.
    @discardableResult
    func takeAll() throws(VirtqueueError) -> [Buffer] { try take(.max) }

    /// What the device may read of a buffer.
    func readableBytes(of buffer: Buffer) -> [UInt8] {
        bytes(buffer.readablePieces)
    }

    /// What stands where the device may write.
    func writableBytes(of buffer: Buffer) -> [UInt8] {
        bytes(buffer.writablePieces)
    }

    private func bytes(_ range: Range<Int>) -> [UInt8] {
        let slice = pieces.slice(range)
        var bytes = [UInt8](repeating: 0, count: slice.byteCount)
        var span = bytes.mutableSpan
        // SAFETY: plain bytes, of which every pattern is legal.
        var raw = unsafe span.mutableBytes
        slice.copyBytes(into: &raw)
        return bytes
    }

    /// The pieces of a buffer, readable ones first: where the device would touch memory.
    func addresses(of buffer: Buffer) -> [(start: UInt, byteCount: Int)] {
        let range = buffer.readablePieces.lowerBound..<buffer.writablePieces.upperBound
        let slice = pieces.slice(range)
        // SAFETY: the index is below the number of pieces; only the address is looked at.
        return (0..<slice.count).map {
            unsafe (UInt(bitPattern: slice.base[$0].iov_base), slice.base[$0].iov_len)
        }
    }

    /// Writes to where the device may.
    func write(_ bytes: [UInt8], to buffer: Buffer) {
        // SAFETY: plain bytes, of which every pattern is legal.
        unsafe pieces.slice(buffer.writablePieces).store(bytes: bytes.span.bytes)
    }

    /// Puts one buffer.
    func put(_ buffer: Buffer, writtenLength: UInt32 = 0) {
        forget(buffer)
        queue.put(UsedBuffer(id: buffer.id, writtenLength: writtenLength))
    }

    /// Puts n buffers at once, each with the same length.
    func put(_ buffers: [Buffer], writtenLength: UInt32 = 0) {
        for buffer in buffers { forget(buffer) }
        let used = buffers.map { UsedBuffer(id: $0.id, writtenLength: writtenLength) }
        queue.put(used.span)
    }

    private func forget(_ buffer: Buffer) {
        taken.removeAll { $0.id == buffer.id }
        if taken.isEmpty { pieces.removeAll() }
    }

    /// Hands back the last buffers that were taken.
    func handBack(_ count: Int) {
        queue.handBack(count)
        if let first = taken.suffix(count).first { pieces.truncate(to: Int(first.firstPiece)) }
        taken.removeLast(count)
    }

    /// Puts everything that was taken, publishes and signals.
    func finish(writtenLength: UInt32 = 0) {
        put(taken, writtenLength: writtenLength)
        queue.flush()
        queue.signal()
    }

    // MARK: The driver's side

    /// The guest addresses of the ring's three parts.
    var areas: [Range<UInt64>] {
        if let driver = driver as? SplitDriver {
            return [
                (driver.descriptorAddress, driver.descriptorArea),
                (driver.availableAddress, driver.availableArea),
                (driver.usedAddress, driver.usedArea),
            ].map { $0..<$0 + UInt64($1.byteCount) }
        }
        guard let driver = driver as? PackedDriver else { return [] }
        return [
            (driver.descriptorAddress, driver.descriptorArea),
            (driver.driverEventAddress, driver.driverEventArea),
            (driver.deviceEventAddress, driver.deviceEventArea),
        ].map { $0..<$0 + UInt64($1.byteCount) }
    }

    /// Offers a buffer of `count` readable bytes, each `byte`.
    @discardableResult
    func offer(_ byte: UInt8, count: Int = 4, placement: Chain.Placement = .direct) -> UInt16? {
        let bytes = [UInt8](repeating: byte, count: count)
        return driver.offer(readable: [bytes], placement: placement, tag: Int(byte))
    }

    /// What the driver gets back, by tag.
    func reapedTags() throws -> [Int] { try driver.reapAll().map(\.tag) }
}

/// Every legal small size, and for each every place where an index or a wrap counter turns.
struct SmallRing: CustomTestStringConvertible, Sendable {
    let format: RingFormat
    let size: Int

    var testDescription: String { "\(format), \(size)" }

    /// Split: from a lap before to a lap behind the end of 16 bits.
    ///
    /// Packed: each place of both laps.
    var starts: [UInt32] {
        switch format {
        case .split: (0...UInt32(2 * size)).map { (65536 - UInt32(size) + $0) & 0xFFFF }
        case .packed: (0..<UInt32(2 * size)).map { $0 }
        }
    }

    static let all =
        [1, 2, 4, 8].map { SmallRing(format: .split, size: $0) }
        + (1...8).map { SmallRing(format: .packed, size: $0) }
}

/// Every choice of features.
let featureChoices: [RingOptions] = [false, true].flatMap { indirect in
    [false, true].flatMap { eventIndex in
        [false, true].map { inOrder in
            RingOptions(indirect: indirect, eventIndex: eventIndex, inOrder: inOrder)
        }
    }
}
