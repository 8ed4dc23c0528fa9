// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// Lets one line in ten seconds pass, so that a guest cannot fill the log.
struct LogGate {
    private static let interval = Duration.seconds(10)
    private var nextOpening: Instant?

    /// Whether a line may be written at this time; if so, none may for a while.
    mutating func opens(at now: Instant) -> Bool {
        if let nextOpening, now < nextOpening { return false }
        nextOpening = now.advanced(byNanoseconds: Self.interval.wholeNanoseconds)
        return true
    }
}
