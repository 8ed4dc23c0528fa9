// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Synchronization
import SystemPackage

/// Opens when a number of device threads have reported.
final class StopGate: Sendable {
    private let missing: Atomic<Int>
    private let counter: EventCounter

    /// A gate that waits for `count` reports; with none it is open at once.
    init(count: Int) throws(Errno) {
        missing = Atomic(count)
        counter = try EventCounter(value: count == 0 ? 1 : 0)
    }

    /// Readable once the gate is open.
    var descriptorNumber: Int32 { counter.descriptor.rawValue }

    /// One thread has finished.
    ///
    /// Any thread may call this.
    func report() {
        if missing.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { counter.signal() }
    }
}
