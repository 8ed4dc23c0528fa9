// SPDX-License-Identifier: Apache-2.0

import Glibc
public import SystemPackage

/// A file descriptor with one owner, closed when the owner goes.
public struct OwnedDescriptor: ~Copyable, Sendable {
    public let rawValue: Int32

    /// Takes over an open descriptor; nobody else may close it.
    public init(taking rawValue: Int32) {
        precondition(rawValue >= 0, "an owned descriptor is open")
        self.rawValue = rawValue
    }

    deinit {
        close(rawValue)
    }

    /// Gives the descriptor up without closing it.
    public consuming func release() -> Int32 {
        let descriptor = rawValue
        discard self
        return descriptor
    }

    /// A second descriptor of the same open file, close-on-exec.
    ///
    /// The corresponding C function is `fcntl` with F_DUPFD_CLOEXEC.
    public func duplicate() throws(Errno) -> OwnedDescriptor {
        let descriptor = rawValue
        return OwnedDescriptor(
            taking: try systemCall { fcntl(descriptor, F_DUPFD_CLOEXEC, 0) })
    }

    /// Makes reads and writes return at once, with `wouldBlock` where they cannot go on.
    public func setNonblocking() throws(Errno) {
        let descriptor = rawValue
        let flags = try systemCall { fcntl(descriptor, F_GETFL) }
        try systemCall { fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) }
    }
}
