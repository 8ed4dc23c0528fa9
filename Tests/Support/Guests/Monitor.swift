// SPDX-License-Identifier: Apache-2.0
import Foundation

/// A value that threads share, and whose changes they can wait for.
final class Monitor<Value: Sendable>: @unchecked Sendable {
    // SAFETY: `value` is touched only between lock and unlock of `condition`, hence the conformance.
    private let condition = NSCondition()
    private var value: Value

    init(_ value: Value) {
        self.value = value
    }

    /// Changes or reads the value, and wakes all who wait.
    func update<Result>(_ body: (inout Value) throws -> Result) rethrows -> Result {
        condition.lock()
        defer {
            condition.broadcast()
            condition.unlock()
        }
        return try body(&value)
    }

    /// Waits until `body` answers something; nil when that took longer than `timeout`.
    ///
    /// The condition knows the time of day only, which can be set while we wait: what counts is the
    /// other clock, looked at every second.
    func wait<Result>(within timeout: Duration, until body: (inout Value) -> Result?) -> Result? {
        let clock = SuspendingClock()
        let deadline = clock.now + timeout
        condition.lock()
        defer { condition.unlock() }
        while true {
            if let result = body(&value) { return result }
            let left = deadline - clock.now
            guard left > .zero else { return nil }
            _ = condition.wait(until: Date(timeIntervalSinceNow: min(left / .seconds(1), 1)))
        }
    }
}
