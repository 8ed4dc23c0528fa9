// SPDX-License-Identifier: Apache-2.0

import Glibc
public import LinuxIO
public import SystemPackage

/// An eventfd between the driver and the device; any thread may ring it or wait for it.
public final class Doorbell: Sendable {
    /// The eventfd, for who sends its descriptor elsewhere.
    public let counter: EventCounter

    public init(value: UInt32 = 0) throws(Errno) {
        counter = try EventCounter(value: value)
    }

    /// Rings.
    public func ring() {
        counter.signal()
    }

    /// Waits until it rings, and hears everything that rang until then.
    ///
    /// - Returns: false when it did not ring within the time.
    public func wait(milliseconds: Int32 = 20_000) -> Bool {
        var wanted = pollfd(
            fd: counter.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        // SAFETY: one structure, a local.
        guard unsafe poll(&wanted, 1, milliseconds) == 1 else { return false }
        counter.drain()
        return true
    }
}
