// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// An eventfd: a counter that one side adds to and the other waits for.
public struct EventCounter: ~Copyable, Sendable {
    public let descriptor: OwnedDescriptor

    /// A new counter at `value`, nonblocking and close-on-exec.
    ///
    /// The corresponding C function is `eventfd`.
    public init(value: UInt32 = 0) throws(Errno) {
        let flags = Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK)
        descriptor = OwnedDescriptor(taking: try systemCall { eventfd(value, flags) })
    }

    /// Takes over a descriptor that a peer sent: an eventfd, or a pipe where the peer is
    /// user-mode-linux.
    public init(taking descriptor: consuming OwnedDescriptor) {
        self.descriptor = descriptor
    }

    /// Adds one, so that the waiting side wakes up.
    ///
    /// A full counter or pipe is a wake-up already.
    ///
    /// The corresponding C function is `write`.
    ///
    /// - Returns: false when the call hung until it was interrupted (`EventLoop.endStalls`): the other
    ///   side has made the descriptor blocking and filled it. It is not to be signalled again.
    @discardableResult
    public func signal() -> Bool {
        var one: UInt64 = 1
        // SAFETY: writes the eight bytes of a local. EAGAIN means that the other side has more
        // wake-ups waiting than it can count, EPIPE that it is gone. EINTR: only a call that
        // waits is interrupted.
        let number = descriptor.rawValue
        return errnoOfOneTry { unsafe write(number, &one, 8) } != EINTR
    }

    /// Reads the counter back to zero (of a pipe: what is in it, up to 4 KiB).
    public func drain() {
        unsafe withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { buffer in
            // SAFETY: reads into the allocation, no further than its end.
            _ = unsafe read(descriptor.rawValue, buffer.baseAddress, buffer.count)
        }
    }
}
