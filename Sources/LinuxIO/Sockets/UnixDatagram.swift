// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// One message to a datagram socket, as the service manager takes them (sd_notify(3)).
public enum UnixDatagram {
    /// Sends the message.
    ///
    /// The corresponding C functions are `socket` and `sendto`.
    ///
    /// - Parameters:
    ///   - message: sent as UTF-8.
    ///   - path: a path, or a name in the abstract namespace after an `@`.
    /// - Throws: `invalidArgument` when the path is empty or too long, else the errno.
    public static func send(_ message: String, toPath path: String) throws(Errno) {
        try send(Array(message.utf8), toPath: path, flags: Int32(MSG_NOSIGNAL))
    }

    /// Sends bytes, or fails at once when the receiver has no room for them.
    ///
    /// The corresponding C functions are `socket` and `sendto` with MSG_DONTWAIT.
    ///
    /// - Parameters:
    ///   - bytes: the whole datagram.
    ///   - path: as above.
    /// - Throws: `invalidArgument` when the path is empty or too long, else the errno.
    public static func sendWithoutWaiting(_ bytes: [UInt8], toPath path: String) throws(Errno) {
        try send(bytes, toPath: path, flags: Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
    }

    private static func send(
        _ bytes: [UInt8], toPath path: String, flags: Int32
    ) throws(Errno) {
        let isAbstract = path.hasPrefix("@")
        let address =
            isAbstract
            ? UnixAddress(abstractName: String(path.dropFirst())) : UnixAddress(path: path)
        guard let address else { throw .invalidArgument }
        let kind = Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let socket = OwnedDescriptor(taking: try systemCall { Glibc.socket(AF_UNIX, kind, 0) })
        // SAFETY: sendto reads the bytes and the address, no further than their sizes.
        try unsafe address.withSocketAddress { pointer, size throws(Errno) in
            _ = try systemCall {
                unsafe sendto(socket.rawValue, bytes, bytes.count, flags, pointer, size)
            }
        }
    }
}
