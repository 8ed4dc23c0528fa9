// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Synchronization

/// Keeps one place of the program from filling the log, whatever a guest or a client does.
///
/// Each place that logs may write a few messages at once and then one in a while; the next one that
/// passes says how many did not. Devices have finer gates of their own, one a queue or one a request;
/// this is what holds when somebody finds a way around them. Any thread may ask.
final class LogLimiter: Sendable {
    /// Messages that a place may write at once.
    static let burst = 20
    /// How long it takes until it may write one more.
    static let interval = Duration.seconds(3)
    /// Places that are remembered: more than the program has.
    private static let placeLimit = 1024

    private struct Place: Hashable {
        let file: String
        let line: UInt
    }

    private struct Bucket {
        var left = LogLimiter.burst
        var filledAt: Instant
        var suppressedCount = 0
    }

    private let buckets = Mutex<[Place: Bucket]>([:])

    /// Asks whether a message may be written now.
    ///
    /// - Returns: how many of the same place were not written since the last one; nil when this one may
    ///   not be, either.
    func admit(file: String, line: UInt, at now: Instant) -> Int? {
        buckets.withLock { buckets in
            if buckets.count >= Self.placeLimit { buckets = [:] }
            let place = Place(file: file, line: line)
            var bucket = buckets[place] ?? Bucket(filledAt: now)
            defer { buckets[place] = bucket }
            Self.fill(&bucket, at: now)
            guard bucket.left > 0 else {
                bucket.suppressedCount += 1
                return nil
            }
            bucket.left -= 1
            defer { bucket.suppressedCount = 0 }
            return bucket.suppressedCount
        }
    }

    private static func fill(_ bucket: inout Bucket, at now: Instant) {
        let interval = interval.wholeNanoseconds
        let elapsed = now > bucket.filledAt ? now.nanoseconds - bucket.filledAt.nanoseconds : 0
        let count = elapsed / interval
        guard count > 0 else { return }
        if count >= UInt64(burst) {
            bucket.left = burst
            bucket.filledAt = now
        } else {
            bucket.left = min(burst, bucket.left + Int(count))
            bucket.filledAt = bucket.filledAt.advanced(byNanoseconds: count * interval)
        }
    }
}
