// SPDX-License-Identifier: Apache-2.0

import Glibc
public import LinuxIO
public import SystemPackage

/// An eventfd as a front-end has one for kicks, calls and errors.
public final class Signal: Sendable {
    private let counter: EventCounter

    /// A new one; QEMU's kicks start at one.
    public init(value: UInt32 = 0) throws(Errno) {
        counter = try EventCounter(value: value)
    }

    /// The descriptor; stays this object's.
    public var rawDescriptor: Int32 { counter.descriptor.rawValue }

    /// Adds one.
    public func raise() { counter.signal() }

    /// Takes what was added since the last time; 0 when there was nothing.
    public func take() -> UInt64 {
        var value: UInt64 = 0
        // SAFETY: an eventfd reads exactly eight bytes, those of a local.
        let count = unsafe read(rawDescriptor, &value, 8)
        return count == 8 ? value : 0
    }
}

/// A pipe, as user-mode-linux uses them in place of eventfds.
public final class Pipe: Sendable {
    public let readingEnd: OwnedDescriptor
    public let writingEnd: OwnedDescriptor

    /// A new pipe, its reading end nonblocking.
    public init() throws(Errno) {
        var ends: (Int32, Int32) = (-1, -1)
        // SAFETY: pipe fills two integers, as many as the tuple has.
        try systemCall {
            unsafe withUnsafeMutableBytes(of: &ends) {
                unsafe pipe($0.baseAddress?.assumingMemoryBound(to: Int32.self))
            }
        }
        readingEnd = OwnedDescriptor(taking: ends.0)
        writingEnd = OwnedDescriptor(taking: ends.1)
        try readingEnd.setNonblocking()
    }

    /// Takes the bytes that are in the pipe, at most 4096.
    public func take() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 4096)
        // SAFETY: reads no further than the array is long.
        let count = unsafe read(readingEnd.rawValue, &bytes, bytes.count)
        return Array(bytes.prefix(max(0, count)))
    }
}

/// How many descriptors this process has open.
public func openDescriptorCount() -> Int {
    (0..<4096).count { fcntl($0, F_GETFD) != -1 }
}
