// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Where a test stream connects or listens.
public enum StreamAddress: Sendable {
    /// AF_VSOCK: a context id (2 is the host) and a port.
    case vsock(cid: UInt32, port: UInt32)
    /// The same for messages (SOCK_SEQPACKET).
    case vsockMessages(cid: UInt32, port: UInt32)
    /// AF_UNIX, by path.
    case unix(path: String)
    /// The same for messages.
    case unixMessages(path: String)
    /// AF_UNIX, then the line `CONNECT <port>` that asks the daemon for a port in the guest.
    case guest(path: String, port: UInt32)
    /// The same for messages, each of which keeps its borders.
    case guestMessages(path: String, port: UInt32)

    /// VMADDR_CID_ANY.
    public static let anyCID: UInt32 = 0xffff_ffff

    /// Connects, and for a port in the guest waits for the daemon's `OK`.
    public func connect() throws(StreamError) -> StreamSocket {
        let socket = try makeSocket()
        // SAFETY: the address and its length come from withSocketAddress and live through the call.
        let code = try unsafe withSocketAddress { address, length in
            unsafe Glibc.connect(socket.descriptor, address, length)
        }
        guard code == 0 else { throw .system(call: "connect to \(self)", code: errno) }
        try socket.limitBlocking(seconds: StreamSocket.mostSecondsBlocked)
        switch self {
        case .guest(_, let port), .guestMessages(_, let port):
            try socket.write("CONNECT \(port)\n")
            let answer = try socket.readLine()
            guard answer.hasPrefix("OK ") else { throw .wrongAnswer(answer) }
        case .vsock, .vsockMessages, .unix, .unixMessages:
            break
        }
        return socket
    }

    /// Whether messages are exchanged, and not bytes.
    private var keepsMessages: Bool {
        switch self {
        case .vsockMessages, .unixMessages, .guestMessages: true
        case .vsock, .unix, .guest: false
        }
    }

    /// Listens; a Unix socket that stands in the way is removed first.
    public func listen() throws(StreamError) -> StreamSocket {
        switch self {
        case .unix(let path), .unixMessages(let path):
            // SAFETY: the path is passed as a NUL-terminated string that lives through the call.
            unsafe unlink(path)
        case .vsock, .vsockMessages, .guest, .guestMessages:
            break
        }
        let socket = try makeSocket()
        try bind(socket)
        guard Glibc.listen(socket.descriptor, 1024) == 0 else {
            throw .system(call: "listen on \(self)", code: errno)
        }
        return socket
    }

    func bind(_ socket: StreamSocket) throws(StreamError) {
        // SAFETY: as in connect().
        let code = try unsafe withSocketAddress { address, length in
            unsafe Glibc.bind(socket.descriptor, address, length)
        }
        guard code == 0 else { throw .system(call: "bind to \(self)", code: errno) }
    }

    private func makeSocket() throws(StreamError) -> StreamSocket {
        let kind = keepsMessages ? SOCK_SEQPACKET : SOCK_STREAM
        let type = Int32(kind.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor =
            switch self {
            case .vsock, .vsockMessages: socket(AF_VSOCK, type, 0)
            case .unix, .unixMessages, .guest, .guestMessages: socket(AF_UNIX, type, 0)
            }
        guard descriptor >= 0 else { throw .system(call: "socket for \(self)", code: errno) }
        return StreamSocket(descriptor: descriptor, keepsMessages: keepsMessages)
    }

    private func withSocketAddress(
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) throws(StreamError) -> Int32 {
        let bytes = try socketAddressBytes()
        // SAFETY: the bytes are laid out as the family's sockaddr, and the length is theirs.
        return unsafe bytes.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return -1 }
            return unsafe body(
                base.assumingMemoryBound(to: sockaddr.self), socklen_t(buffer.count))
        }
    }

    /// The sockaddr_vm or sockaddr_un as the kernel reads it.
    private func socketAddressBytes() throws(StreamError) -> [UInt8] {
        switch self {
        case .vsock(let cid, let port), .vsockMessages(let cid, let port):
            return Self.bytes(UInt16(AF_VSOCK)) + [0, 0] + Self.bytes(port) + Self.bytes(cid)
                + [0, 0, 0, 0]
        case .unix(let path), .unixMessages(let path), .guest(let path, _),
            .guestMessages(let path, _):
            let name = Array(path.utf8)
            guard name.count < 108 else { throw .pathTooLong(path) }
            return Self.bytes(UInt16(AF_UNIX)) + name + [0]
        }
    }

    private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
        (0..<(value.bitWidth / 8)).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    }
}
