// SPDX-License-Identifier: Apache-2.0

import Glibc
public import SystemPackage

/// A file that is written from its start to its end.
///
/// Belongs to one thread at a time, whichever made it.
public final class OutputFile {
    private let descriptor: OwnedDescriptor

    /// Makes the file, or empties it; its owner alone may read and write it.
    ///
    /// The corresponding C function is `open`.
    public init(path: String) throws(Errno) {
        let flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC
        // SAFETY: the path is passed as a C string for the length of the call.
        descriptor = OwnedDescriptor(
            taking: try systemCall { unsafe Glibc.open(path, flags, 0o600) })
    }

    /// Writes bytes behind those that are there, all of them.
    ///
    /// The corresponding C function is `write`.
    public func write(_ bytes: [UInt8]) throws(Errno) {
        let number = descriptor.rawValue
        var done = 0
        while done < bytes.count {
            let rest = bytes[done...]
            done += try systemCall {
                // SAFETY: the kernel reads no further than the bytes that are left.
                unsafe rest.withUnsafeBytes {
                    unsafe Glibc.write(number, $0.baseAddress, $0.count)
                }
            }
        }
    }
}

extension SystemClock {
    /// CLOCK_REALTIME: nanoseconds since 1970.
    public static var timeOfDay: UInt64 {
        var time = timespec()
        // SAFETY: clock_gettime writes the one timespec it is given.
        _ = unsafe clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
