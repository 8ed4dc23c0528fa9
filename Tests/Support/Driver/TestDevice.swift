// SPDX-License-Identifier: Apache-2.0

import LinuxIO
public import Virtio

/// Counts the signals that the device sends, and passes them on.
public final class SignalCounter: DriverNotifier {
    /// Signals since the last reset.
    public var count = 0
    private let onSignal: (() -> Void)?

    public init(_ onSignal: (() -> Void)? = nil) {
        self.onSignal = onSignal
    }

    public func notifyDriver() {
        count += 1
        onSignal?()
    }
}

/// The device of drivers/vhost/test.c: takes buffers and gives them back, in batches.
///
/// What the driver wrote into a buffer is copied to where the device may write, as far as it fits,
/// and that many bytes are reported.
public final class TestDevice: VirtioDevice {
    /// How buffers are given back.
    public enum Batching: Sendable {
        /// Each by itself, published and signalled at once.
        case one
        /// Put one by one, published and signalled in batches of up to n.
        case putOne(batch: Int)
        /// Put, published and signalled in batches of up to n.
        case putMany(batch: Int)
        /// As before; but of each batch, the second half is handed back first and taken again.
        case handBack(batch: Int)

        var size: Int {
            switch self {
            case .one: 1
            case .putOne(let batch), .putMany(let batch), .handBack(let batch): batch
            }
        }
    }

    public let offeredFeatures: VirtioFeatures
    public let queueCount: Int
    public var configuration: [UInt8]
    public var batching: Batching
    /// What the driver chose.
    public private(set) var features: VirtioFeatures = []
    /// The queues that run.
    public private(set) var queues: [Virtqueue?]
    /// Buffers put.
    public private(set) var bufferCount = 0
    /// Bytes that were there to be read.
    public private(set) var readableByteCount: UInt64 = 0
    /// What the last queue that broke broke of.
    public private(set) var breakage: VirtqueueError?
    /// Resets and queue starts and stops, in the order of the calls.
    public private(set) var events: [String] = []
    private var pieces = IOVectorArray(capacity: 16)
    private var taken: [Buffer] = []

    /// A device that gives buffers back as `batching` says.
    public init(
        features: VirtioFeatures = [
            .version1, .ringPacked, .indirectDescriptors, .eventIndex, .inOrder,
            .protocolFeatures,
        ], queueCount: Int = 1, configuration: [UInt8] = [],
        batching: Batching = .putMany(batch: 64)
    ) {
        offeredFeatures = features
        self.queueCount = queueCount
        self.configuration = configuration
        self.batching = batching
        queues = Array(repeating: nil, count: queueCount)
    }

    public func readConfiguration() -> [UInt8] { configuration }

    public func writeConfiguration(_ bytes: [UInt8], at offset: Int) -> Bool {
        guard offset >= 0, offset <= configuration.count,
            bytes.count <= configuration.count - offset
        else { return false }
        configuration.replaceSubrange(offset..<offset + bytes.count, with: bytes)
        return true
    }

    public func featuresNegotiated(_ features: VirtioFeatures) {
        self.features = features
        events.append("features")
    }

    public func startQueue(_ queue: Virtqueue, at index: Int) {
        queues[index] = queue
        events.append("start \(index)")
    }

    public func driverNotified(queueAt index: Int) {
        if let queue = queues[index] { run(queue) }
    }

    public func stopQueue(at index: Int) {
        queues[index] = nil
        events.append("stop \(index)")
    }

    public func expediteStop(ofQueueAt index: Int) {
        events.append("expedite \(index)")
    }

    public func reset() {
        features = []
        events.append("reset")
    }

    /// Serves a queue until nothing is left, with notifications off in the meantime.
    ///
    /// - Returns: how many buffers were given back.
    @discardableResult
    public func run(_ queue: Virtqueue) -> Int {
        var done = 0
        repeat {
            queue.suppressNotifications()
            while true {
                let count = serveBatch(queue)
                if count == 0 { break }
                done += count
            }
        } while queue.breakage == nil && queue.requestNotifications()
        return done
    }

    /// Takes one batch and gives it back.
    ///
    /// - Returns: how many buffers were given back.
    @discardableResult
    public func serveBatch(_ queue: Virtqueue) -> Int {
        takeBatch(queue)
        // What is handed back to a broken queue does not come again.
        if case .handBack = batching, taken.count > 1, queue.breakage == nil {
            let count = taken.count / 2
            queue.handBack(count)
            taken.removeLast(count)
        }
        let used = taken.map { serve($0) }
        give(used, to: queue)
        pieces.removeAll()
        taken.removeAll(keepingCapacity: true)
        return used.count
    }

    private func takeBatch(_ queue: Virtqueue) {
        do {
            while taken.count < batching.size, let buffer = try queue.take(&pieces) {
                taken.append(buffer)
            }
        } catch {
            breakage = error
        }
    }

    private func serve(_ buffer: Buffer) -> UsedBuffer {
        let source = pieces.slice(buffer.readablePieces)
        let target = pieces.slice(buffer.writablePieces)
        bufferCount += 1
        readableByteCount += buffer.readableLength
        let length = min(buffer.readableLength, buffer.writableLength)
        guard length > 0 else { return UsedBuffer(id: buffer.id, writtenLength: 0) }
        var bytes = [UInt8](repeating: 0, count: Int(length))
        var span = bytes.mutableSpan
        // SAFETY: plain bytes, of which every pattern is legal.
        var raw = unsafe span.mutableBytes
        source.copyBytes(into: &raw)
        unsafe target.store(bytes: bytes.span.bytes)
        return UsedBuffer(id: buffer.id, writtenLength: UInt32(length))
    }

    private func give(_ used: [UsedBuffer], to queue: Virtqueue) {
        if used.isEmpty { return }
        switch batching {
        case .one, .putOne:
            for buffer in used { queue.put(buffer) }
        case .putMany, .handBack:
            queue.put(used.span)
        }
        queue.flush()
        queue.signal()
    }
}
