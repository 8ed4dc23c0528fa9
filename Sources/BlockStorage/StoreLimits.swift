// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// How much may be asked of a store; nil for as much as it can.
///
/// A burst is what may be done at once after a pause, beyond the rate: by default a tenth of a
/// second's worth, and at least one request.
public struct StoreLimits: Equatable, Sendable, Codable {
    /// Reads and writes a second, and what frees or clears blocks.
    public var operationsPerSecond: UInt64?
    /// Operations that may be done at once.
    public var operationBurst: UInt64?
    /// Bytes a second that are read and written.
    public var bytesPerSecond: UInt64?
    /// Bytes that may be moved at once.
    public var byteBurst: UInt64?

    public init(
        operationsPerSecond: UInt64? = nil, operationBurst: UInt64? = nil,
        bytesPerSecond: UInt64? = nil, byteBurst: UInt64? = nil
    ) {
        self.operationsPerSecond = operationsPerSecond
        self.operationBurst = operationBurst
        self.bytesPerSecond = bytesPerSecond
        self.byteBurst = byteBurst
    }

    /// What keeps these from being limits, for people; nil for nothing.
    public var fault: String? {
        for (name, rate, burst) in [
            ("operations", operationsPerSecond, operationBurst),
            ("bytes", bytesPerSecond, byteBurst),
        ] {
            if rate == 0 || burst == 0 { return "0 \(name) is no limit; for none leave it out" }
            if rate == nil, burst != nil {
                return "a burst of \(name) needs a rate of \(name) a second beside it"
            }
        }
        return nil
    }
}

/// What flows into a bucket at a rate and may be taken out of it, never more than it holds.
///
/// The bucket may be overdrawn by what does not fit in whole: a transfer that is larger than the
/// burst goes when the bucket is full, and the debt is paid before the next one.
struct TokenBucket {
    private let perSecond: Double
    private let capacity: Double
    private var level: Double
    private var filledAt: Instant

    init(perSecond: UInt64, burst: UInt64?, now: Instant) {
        self.perSecond = Double(max(1, perSecond))
        capacity = max(1, burst.map { Double($0) } ?? Double(perSecond) / 10)
        level = capacity
        filledAt = now
    }

    /// Fills up to the present.
    mutating func fill(now: Instant) {
        let elapsed = now > filledAt ? now.nanoseconds - filledAt.nanoseconds : 0
        level = min(capacity, level + Double(elapsed) / 1e9 * perSecond)
        filledAt = now
    }

    /// Whether an amount may be taken now.
    func allows(_ amount: Double) -> Bool { level >= min(amount, capacity) }

    mutating func take(_ amount: Double) { level -= amount }

    /// Nanoseconds until an amount may be taken.
    func wait(for amount: Double) -> Double {
        max(0, (min(amount, capacity) - level) / perSecond * 1e9)
    }
}
