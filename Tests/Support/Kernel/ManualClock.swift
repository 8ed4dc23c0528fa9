// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// A clock that a test turns.
public final class ManualClock: MonotonicClock {
    public private(set) var now: Instant

    /// Starts a second after the beginning of time.
    public init() {
        now = Instant(nanoseconds: 1_000_000_000)
    }

    /// Turns the clock on.
    public func advance(by duration: Duration) {
        now = now.advanced(byNanoseconds: duration.wholeNanoseconds)
    }
}
