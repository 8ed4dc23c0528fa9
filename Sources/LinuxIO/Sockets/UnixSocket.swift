// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// A half of a connection, for `shutdown`.
public enum SocketHalf: Sendable {
    case reading
    case writing
    case both

    var rawValue: Int32 {
        switch self {
        case .reading: Int32(SHUT_RD)
        case .writing: Int32(SHUT_WR)
        case .both: Int32(SHUT_RDWR)
        }
    }
}

/// Two sockets that are connected to each other.
public struct SocketPair: ~Copyable {
    public let first: OwnedDescriptor
    public let second: OwnedDescriptor

    /// Hands both ends out.
    public consuming func split<Result>(
        _ body: (consuming OwnedDescriptor, consuming OwnedDescriptor) -> Result
    ) -> Result {
        body(first, second)
    }
}

/// System calls on connected Unix sockets.
///
/// None blocks; none raises SIGPIPE.
public enum UnixSocket {
    /// Descriptors that one message may carry.
    public static let maximumDescriptorCount = 32

    static func make(_ kind: SocketKind) throws(Errno) -> OwnedDescriptor {
        let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        return OwnedDescriptor(
            taking: try systemCall { socket(AF_UNIX, kind.rawValue | flags, 0) })
    }

    /// Connects, without waiting.
    ///
    /// The corresponding C functions are `socket` and `connect`.
    ///
    /// - Throws: `wouldBlock` when the listener's backlog is full (there is no event for its
    ///   end: try again later), `connectionRefused`, `noSuchFileOrDirectory`,
    ///   `protocolWrongTypeForSocket` when the listener is of the other kind.
    public static func connect(
        to address: UnixAddress, kind: SocketKind = .stream
    ) throws(Errno) -> OwnedDescriptor {
        let socket = try make(kind)
        // SAFETY: connect reads `size` bytes of the address.
        try unsafe address.withSocketAddress { pointer, size throws(Errno) in
            _ = try systemCall { unsafe Glibc.connect(socket.rawValue, pointer, size) }
        }
        return socket
    }

    /// Two sockets that are connected to each other.
    ///
    /// The corresponding C function is `socketpair`.
    public static func pair(_ kind: SocketKind = .stream) throws(Errno) -> SocketPair {
        var ends: (Int32, Int32) = (-1, -1)
        let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        // SAFETY: socketpair fills two integers, as many as the tuple has.
        try systemCall {
            unsafe withUnsafeMutableBytes(of: &ends) {
                unsafe socketpair(
                    AF_UNIX, kind.rawValue | flags, 0,
                    $0.baseAddress?.assumingMemoryBound(to: Int32.self))
            }
        }
        return SocketPair(
            first: OwnedDescriptor(taking: ends.0), second: OwnedDescriptor(taking: ends.1))
    }

    /// Receives bytes and the descriptors that came with them.
    ///
    /// The corresponding C function is `recvmsg`.
    ///
    /// - Throws: `messageTooLong` when more descriptors came than a message may carry; they are
    ///   closed.
    public static func receive(
        from socket: borrowing OwnedDescriptor, into bytes: inout MutableRawSpan
    ) throws(Errno) -> (IOResult, ReceivedDescriptors) {
        var descriptors = [Int32](repeating: -1, count: maximumDescriptorCount)
        var count = 0
        var truncated: Int32 = 0
        let number = socket.rawValue
        // SAFETY: the shim writes no further than the lengths that it is given.
        let result = try transfer {
            unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe descriptors.withUnsafeMutableBufferPointer { list in
                    unsafe cl_receive_with_descriptors(
                        number, buffer.baseAddress, buffer.count, list.baseAddress, list.count,
                        &count, &truncated)
                }
            }
        }
        if truncated != 0 { throw .messageTooLong }
        return (result, ReceivedDescriptors(taking: Array(descriptors.prefix(count))))
    }

    /// Sends bytes with descriptors attached to the first of them.
    ///
    /// The corresponding C function is `sendmsg`.
    public static func send(
        _ bytes: RawSpan, descriptors: [Int32] = [], to socket: borrowing OwnedDescriptor
    ) throws(Errno) -> IOResult {
        let number = socket.rawValue
        // SAFETY: the shim reads no further than the lengths that it is given.
        return try transfer {
            unsafe bytes.withUnsafeBytes { buffer in
                unsafe descriptors.withUnsafeBufferPointer { list in
                    unsafe cl_send_with_descriptors(
                        number, buffer.baseAddress, buffer.count, list.baseAddress, list.count)
                }
            }
        }
    }

    /// Sends straight from the pieces.
    ///
    /// At most 1024 of them (IOV_MAX).
    ///
    /// The corresponding C function is `sendmsg`.
    public static func send(
        _ pieces: IOVectorSlice, to socket: borrowing OwnedDescriptor
    ) throws(Errno) -> IOResult {
        var message = unsafe msghdr()
        unsafe message.msg_iov = pieces.base
        unsafe message.msg_iovlen = pieces.count
        let number = socket.rawValue
        // SAFETY: the kernel reads the pieces, which their list keeps valid.
        return try transfer { unsafe sendmsg(number, &message, Int32(MSG_NOSIGNAL)) }
    }

    /// Receives straight into the pieces.
    ///
    /// At most 1024 of them (IOV_MAX).
    ///
    /// The corresponding C function is `recvmsg`.
    public static func receive(
        from socket: borrowing OwnedDescriptor, into pieces: IOVectorSlice
    ) throws(Errno) -> IOResult {
        var message = unsafe msghdr()
        unsafe message.msg_iov = pieces.base
        unsafe message.msg_iovlen = pieces.count
        let number = socket.rawValue
        // SAFETY: the kernel fills the pieces, which their list keeps valid.
        return try transfer { unsafe recvmsg(number, &message, 0) }
    }

    /// Whether the peer has closed its end, or its writing half; what it sent before may be unread.
    ///
    /// The corresponding C function is `poll`.
    public static func peerHasGone(_ socket: borrowing OwnedDescriptor) -> Bool {
        let closed = Int16(Interest.peerClosed.rawValue)
        var entry = pollfd(fd: socket.rawValue, events: closed, revents: 0)
        // SAFETY: poll looks at and fills the one entry, a local.
        return unsafe poll(&entry, 1, 0) == 1 && entry.revents != 0
    }

    /// Ends one half of a connection or both.
    ///
    /// The corresponding C function is `shutdown`. A peer that is gone already is no error.
    public static func shutDown(_ half: SocketHalf, of socket: borrowing OwnedDescriptor) {
        _ = shutdown(socket.rawValue, half.rawValue)
    }
}
