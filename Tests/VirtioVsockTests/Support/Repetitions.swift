// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// How often a test repeats what it does: so often that a mistake shows up, or, when `VHOSTD_WHOLE` is
/// set, as often as the project has promised itself.
struct Repetitions {
    private static let isWhole = ProcessEnvironment.variable("VHOSTD_WHOLE") != nil

    let count: Int

    init(_ usual: Int, whole: Int) {
        count = Self.isWhole ? whole : usual
    }
}
