// SPDX-License-Identifier: Apache-2.0

import Glibc
public import SystemPackage

/// What an open descriptor is, as far as it matters how to wait for it and how to write to it.
public enum DescriptorKind: Equatable, Sendable {
    /// A pipe or FIFO.
    case pipe
    /// A socket of any family.
    case socket
    /// A file on a file system or in memory.
    case regularFile
    /// Anything else: an eventfd, a character device, a directory.
    case other
}

extension OwnedDescriptor {
    /// What the descriptor is.
    ///
    /// The corresponding C function is `fstat`.
    public func kind() throws(Errno) -> DescriptorKind {
        var status = stat()
        let number = rawValue
        // SAFETY: fstat fills the one local that it is given.
        try systemCall { unsafe fstat(number, &status) }
        switch status.st_mode & S_IFMT {
        case S_IFIFO: return .pipe
        case S_IFSOCK: return .socket
        case S_IFREG: return .regularFile
        default: return .other
        }
    }

    /// Writes bytes to a pipe, an eventfd or a file at its position.
    ///
    /// Sockets have `UnixSocket.send`, which raises no SIGPIPE. The corresponding C function is
    /// `write`.
    public func writeBytes(_ bytes: [UInt8]) throws(Errno) -> IOResult {
        let number = rawValue
        // SAFETY: the kernel reads no further than the length that it is given.
        return try transfer {
            unsafe bytes.withUnsafeBytes { unsafe write(number, $0.baseAddress, $0.count) }
        }
    }
}
