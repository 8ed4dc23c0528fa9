// SPDX-License-Identifier: Apache-2.0

import Glibc
public import SystemPackage

/// A Unix socket that another process has passed to this one, by its number.
public enum PassedSocket: ~Copyable {
    /// It listens for connections.
    case listening(OwnedDescriptor)
    /// It is one.
    case connected(OwnedDescriptor)

    /// Takes a descriptor over, once.
    ///
    /// The corresponding C functions are `getsockopt` and `fcntl`.
    ///
    /// - Throws: `badFileDescriptor`, `notSocket`, or `addressFamilyNotSupported` for a socket that
    ///   is no Unix stream socket.
    public static func take(_ number: Int32) throws(Errno) -> PassedSocket {
        guard try option(SO_DOMAIN, of: number) == AF_UNIX,
            try option(SO_TYPE, of: number) == Int32(SOCK_STREAM.rawValue)
        else { throw .addressFamilyNotSupported }
        let isListening = try option(SO_ACCEPTCONN, of: number) != 0
        _ = try systemCall { fcntl(number, F_SETFD, FD_CLOEXEC) }
        let flags = try systemCall { fcntl(number, F_GETFL) }
        _ = try systemCall { fcntl(number, F_SETFL, flags | O_NONBLOCK) }
        let descriptor = OwnedDescriptor(taking: number)
        return isListening ? .listening(descriptor) : .connected(descriptor)
    }

    private static func option(_ name: Int32, of number: Int32) throws(Errno) -> Int32 {
        var value: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        // SAFETY: the kernel fills the one integer.
        _ = try systemCall { unsafe getsockopt(number, SOL_SOCKET, name, &value, &size) }
        return value
    }
}
