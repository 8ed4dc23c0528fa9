// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// A clock that stands still until a test turns it.
final class TurnedClock: MonotonicClock {
    private(set) var now = Instant(nanoseconds: 1_000_000_000)

    /// Lets time pass; the loop notices at its next turn.
    func advance(by duration: Duration) {
        now = now.advanced(byNanoseconds: duration.wholeNanoseconds)
    }
}
