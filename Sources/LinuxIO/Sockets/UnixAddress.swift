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

    /// The path in the file system, or the name in the abstract namespace.
    public let path: String
    /// Whether the name lies in the abstract namespace: no file, gone with the socket.
    private let isAbstract: Bool

    /// Nil when the path is empty, has a zero byte or more than `maximumByteCount` bytes.
    public init?(path: String) {
        let length = path.utf8.count
        guard length > 0, length <= Self.maximumByteCount, !path.utf8.contains(0) else {
            return nil
        }
        self.path = path
        isAbstract = false
    }

    /// A name in the abstract namespace; nil when it has more bytes than a path may have less one.
    public init?(abstractName: String) {
        guard abstractName.utf8.count < Self.maximumByteCount else { return nil }
        path = abstractName
        isAbstract = true
    }

    /// Calls `body` with the address as the socket calls take it.
    func withSocketAddress<Result>(
        _ body: (UnsafePointer<sockaddr>, socklen_t) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        // SAFETY: the initialiser has checked that the path fits; the rest of sun_path is zero.
        let start = isAbstract ? 1 : 0
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { field in
            unsafe UnsafeMutableRawBufferPointer(rebasing: field[start...]).copyBytes(
                from: path.utf8)
        }
        let whole = MemoryLayout<sockaddr_un>.size
        let abstract = MemoryLayout<sa_family_t>.size + start + path.utf8.count
        let size = socklen_t(isAbstract ? abstract : whole)
        return try unsafe withUnsafePointer(to: address) { pointer throws(Errno) -> Result in
            try unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                rebound throws(Errno) -> Result in
                try unsafe body(rebound, size)
            }
        }
    }
}
