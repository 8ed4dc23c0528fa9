// SPDX-License-Identifier: Apache-2.0

import LinuxIO
public import Virtio

/// A device that writes into each buffer what it reads from it; at once, or when the test says so.
public final class EchoDevice: VirtioDevice {
    private struct Held {
        let queue: Virtqueue
        let index: Int
        let buffer: Buffer
        let bytes: [UInt8]
    }

    public var offeredFeatures: VirtioFeatures
    public let queueCount: Int
    public var configuration: [UInt8] = Array(0..<8)
    /// Whether configuration may be written.
    public var isWritable = false
    /// Whether buffers are kept until `complete`.
    public var holds = false
    /// Whether `expediteStop` ends what is held.
    public var obeysExpedite = true
    /// Who serves the queues in turn, the first one queue 0; nobody: the device itself.
    ///
    /// To be set before a transport knows the device.
    public var servers: [QueueServerAddress] = []
    /// What the driver chose last.
    public private(set) var features: VirtioFeatures?
    /// What happened, in order.
    public private(set) var events: [String] = []
    /// Buffers that were given back.
    public private(set) var completedCount = 0
    private var queues: [Virtqueue?]
    private var held: [Held] = []
    private var pieces = IOVectorArray(capacity: 64)

    public init(features: VirtioFeatures, queueCount: Int) {
        offeredFeatures = features
        self.queueCount = queueCount
        queues = Array(repeating: nil, count: queueCount)
    }

    /// Buffers that are in flight.
    public var heldCount: Int { held.count }

    /// Forgets what happened so far, and returns it.
    public func takeEvents() -> [String] {
        defer { events = [] }
        return events
    }

    public func readConfiguration() -> [UInt8] { configuration }

    public func writeConfiguration(_ bytes: [UInt8], at offset: Int) -> Bool {
        guard isWritable, offset + bytes.count <= configuration.count else { return false }
        configuration.replaceSubrange(offset..<offset + bytes.count, with: bytes)
        return true
    }

    public func featuresNegotiated(_ features: VirtioFeatures) {
        self.features = features
        events.append("features")
    }

    public func server(ofQueueAt index: Int) -> QueueServerAddress? {
        servers.isEmpty ? nil : servers[index % servers.count]
    }

    public func startQueue(_ queue: Virtqueue, at index: Int) {
        queues[index] = queue
        events.append("start \(index)")
    }

    public func driverNotified(queueAt index: Int) {
        guard let queue = queues[index] else { return }
        repeat {
            queue.suppressNotifications()
            takeAll(queue, index)
        } while queue.breakage == nil && queue.requestNotifications()
        if !holds { complete() }
    }

    public func stopQueue(at index: Int) {
        queues[index] = nil
        events.append("stop \(index)")
    }

    public func expediteStop(ofQueueAt index: Int) {
        events.append("expedite \(index)")
        if obeysExpedite { complete(where: { $0 == index }) }
    }

    public func reset() {
        features = nil
        events.append("reset")
    }

    private func takeAll(_ queue: Virtqueue, _ index: Int) {
        // What is wrong with a buffer is the session's to report.
        while let buffer = try? queue.take(&pieces) {
            let bytes = read(pieces.slice(buffer.readablePieces), Int(buffer.readableLength))
            held.append(Held(queue: queue, index: index, buffer: buffer, bytes: bytes))
        }
    }

    private func read(_ source: IOVectorSlice, _ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var span = bytes.mutableSpan
        // SAFETY: plain bytes, of which every pattern is legal.
        var raw = unsafe span.mutableBytes
        source.copyBytes(into: &raw)
        return bytes
    }

    /// Gives back every buffer that is held by the queues that `isChosen` names.
    public func complete(where isChosen: (Int) -> Bool = { _ in true }) {
        let done = held.filter { isChosen($0.index) }
        held.removeAll { isChosen($0.index) }
        complete(done)
    }

    /// Gives back the buffers that were taken last.
    public func completeNewest(_ count: Int) {
        let done = held.suffix(count)
        held.removeLast(count)
        complete(Array(done))
    }

    private func complete(_ done: [Held]) {
        for item in done {
            let target = pieces.slice(item.buffer.writablePieces)
            let count = min(item.bytes.count, target.byteCount)
            let bytes = Array(item.bytes.prefix(count))
            // SAFETY: plain bytes, which hold no padding.
            unsafe target.store(bytes: bytes.span.bytes)
            item.queue.put(UsedBuffer(id: item.buffer.id, writtenLength: UInt32(count)))
            item.queue.flush()
            item.queue.signal()
            completedCount += 1
        }
        if held.isEmpty { pieces.removeAll() }
    }
}
