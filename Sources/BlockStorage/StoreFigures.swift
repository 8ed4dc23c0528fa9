// SPDX-License-Identifier: Apache-2.0

/// What a store was asked to do since it was opened.
public struct StoreFigures: Equatable, Sendable, Codable {
    public var readCount: UInt64 = 0
    public var readByteCount: UInt64 = 0
    public var writeCount: UInt64 = 0
    public var writtenByteCount: UInt64 = 0
    public var flushCount: UInt64 = 0
    /// Requests that free or clear blocks.
    public var discardCount: UInt64 = 0
    /// Requests that waited because of a limit.
    public var delayedCount: UInt64 = 0
    /// How long reads and writes took: every sixteenth is timed.
    public var latency = LatencyHistogram()

    public init() {}

    /// Adds what another part of the same store was asked to do.
    public mutating func add(_ other: StoreFigures) {
        readCount += other.readCount
        readByteCount += other.readByteCount
        writeCount += other.writeCount
        writtenByteCount += other.writtenByteCount
        flushCount += other.flushCount
        discardCount += other.discardCount
        delayedCount += other.delayedCount
        latency.add(other.latency)
    }
}

/// How many requests took at most how long.
public struct LatencyHistogram: Equatable, Sendable, Codable {
    /// The upper bounds of the buckets but the last, in microseconds.
    public static let bounds: [UInt64] = [
        50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    ]

    /// Requests in each bucket, the last one for what is above every bound.
    public private(set) var counts = [UInt64](repeating: 0, count: bounds.count + 1)
    /// All times together, in microseconds.
    public private(set) var total: UInt64 = 0

    public init() {}

    /// Adds one request.
    public mutating func add(microseconds: UInt64) {
        let bucket = Self.bounds.firstIndex { microseconds <= $0 } ?? Self.bounds.count
        counts[bucket] += 1
        total += microseconds
    }

    /// Adds the requests of another histogram.
    public mutating func add(_ other: LatencyHistogram) {
        for bucket in counts.indices { counts[bucket] += other.counts[bucket] }
        total += other.total
    }

    /// Requests in all buckets.
    public var count: UInt64 { counts.reduce(0, +) }
}
