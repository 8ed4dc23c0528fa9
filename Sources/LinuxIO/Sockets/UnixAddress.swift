// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage

/// The kind of a Unix socket.
public enum SocketKind: Sendable {
    /// SOCK_STREAM: bytes without borders.
    case stream
    /// SOCK_SEQPACKET: messages, kept whole.
    case sequencedPacket

    var rawValue: Int32 {
        switch self {
        case .stream: Int32(SOCK_STREAM.rawValue)
        case .sequencedPacket: Int32(SOCK_SEQPACKET.rawValue)
        }
    }
}

/// The path of a Unix socket, short enough for the kernel.
public struct UnixAddress: Hashable, Sendable {
    /// Bytes that a path may have: sun_path less its final zero (unix(7)).
    public static let maximumByteCount = 107

    /// The path in the file system.
    public let path: String

    /// Nil when the path is empty, has a zero byte or more than `maximumByteCount` bytes.
    public init?(path: String) {
        let length = path.utf8.count
        guard length > 0, length <= Self.maximumByteCount, !path.utf8.contains(0) else {
            return nil
        }
        self.path = path
    }

    /// Calls `body` with the address as the socket calls take it.
    func withSocketAddress<Result>(
        _ body: (UnsafePointer<sockaddr>, socklen_t) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        // SAFETY: the initialiser has checked that the path fits; the rest of sun_path is zero.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) {
            unsafe $0.copyBytes(from: path.utf8)
        }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        return try unsafe withUnsafePointer(to: address) { pointer throws(Errno) -> Result in
            try unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                rebound throws(Errno) -> Result in
                try unsafe body(rebound, size)
            }
        }
    }
}
