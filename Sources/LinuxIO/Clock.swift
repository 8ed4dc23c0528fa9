// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A point in time of the monotonic clock, in nanoseconds.
public struct Instant: Comparable, Hashable, Sendable {
    public let nanoseconds: UInt64

    public init(nanoseconds: UInt64) {
        self.nanoseconds = nanoseconds
    }

    public static func < (left: Instant, right: Instant) -> Bool {
        left.nanoseconds < right.nanoseconds
    }

    /// The instant `nanoseconds` later; the end of time when that overflows.
    public func advanced(byNanoseconds nanoseconds: UInt64) -> Instant {
        let (sum, overflow) = self.nanoseconds.addingReportingOverflow(nanoseconds)
        return Instant(nanoseconds: overflow ? .max : sum)
    }
}

/// Where an event loop reads the time: the kernel's clock, or one that a test turns.
public protocol MonotonicClock: AnyObject {
    var now: Instant { get }
}

/// CLOCK_MONOTONIC.
///
/// Any thread may ask it.
public final class SystemClock: MonotonicClock {
    public init() {}

    public var now: Instant {
        var time = timespec()
        // SAFETY: clock_gettime writes the one timespec it is given.
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Instant(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
    }
}

extension Duration {
    /// Whole nanoseconds, none when negative, the largest number when too long.
    public var wholeNanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        if seconds < 0 || attoseconds < 0 { return 0 }
        let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .max : product &+ UInt64(attoseconds / 1_000_000_000)
    }
}
