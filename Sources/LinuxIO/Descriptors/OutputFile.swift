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
    /// A name that is given by mistake, that of a disk for one, costs nothing: only a file that starts in
    /// the same way, or is empty, is emptied. A pipe or a terminal is written to as it is.
    ///
    /// The corresponding C functions are `open`, `fstat`, `pread` and `ftruncate`.
    ///
    /// - Parameters:
    ///   - path: of the file.
    ///   - start: what files of the same kind start with.
    /// - Throws: the errno; EEXIST for a file of another kind, or a block device.
    public init(path: String, replacing start: [UInt8]) throws(Errno) {
        // SAFETY: the path is passed as a C string for the length of the call.
        descriptor = OwnedDescriptor(
            taking: try systemCall { unsafe Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600) })
        var status = stat()
        let number = descriptor.rawValue
        // SAFETY: fstat fills the one local that it is given.
        try systemCall { unsafe fstat(number, &status) }
        switch status.st_mode & S_IFMT {
        case S_IFBLK: throw .fileExists
        case S_IFREG:
            if status.st_size > 0, try !starts(with: start) { throw .fileExists }
            try systemCall { ftruncate(number, 0) }
        default: break
        }
    }

    private func starts(with start: [UInt8]) throws(Errno) -> Bool {
        var bytes = [UInt8](repeating: 0, count: start.count)
        let number = descriptor.rawValue
        let count = try systemCall {
            // SAFETY: the kernel writes no further than the array reaches.
            unsafe bytes.withUnsafeMutableBytes {
                unsafe pread(number, $0.baseAddress, $0.count, 0)
            }
        }
        return count == start.count && bytes == start
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
