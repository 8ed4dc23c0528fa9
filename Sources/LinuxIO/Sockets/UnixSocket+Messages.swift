// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// What a look at the next message of a SOCK_SEQPACKET socket found.
public enum NextMessage: Equatable, Sendable {
    /// There is one of this many bytes, perhaps none.
    case message(byteCount: Int)
    /// None is there yet.
    case wouldBlock
    /// The peer will send no more.
    case endOfFile
}

extension UnixSocket {
    /// Tells how long the next message is, and leaves it there.
    ///
    /// Empty messages with nothing but the peer's end behind them cannot be told from the end.
    ///
    /// The corresponding C functions are `recv` with MSG_PEEK and MSG_TRUNC, `poll`, and `ioctl` with
    /// FIONREAD.
    public static func nextMessage(
        of socket: borrowing OwnedDescriptor
    ) throws(Errno) -> NextMessage {
        let number = socket.rawValue
        var byte: UInt8 = 0
        let flags = Int32(MSG_PEEK) | Int32(MSG_TRUNC)
        // SAFETY: the kernel writes at most the one byte.
        switch try transfer({ unsafe recv(number, &byte, 1, flags) }) {
        case .bytes(let count): return .message(byteCount: count)
        case .wouldBlock: return .wouldBlock
        case .endOfFile:
            return peerHasGone(socket) && !hasBytes(socket) ? .endOfFile : .message(byteCount: 0)
        }
    }

    /// Whether there is a byte in any of the messages that wait.
    private static func hasBytes(_ socket: borrowing OwnedDescriptor) -> Bool {
        var count: Int32 = 0
        // SAFETY: the kernel fills the one integer.
        return unsafe ioctl(socket.rawValue, UInt(FIONREAD), &count) == 0 && count > 0
    }

    /// Bytes that the longest message may have.
    ///
    /// The corresponding C function is `getsockopt` with SO_SNDBUF.
    public static func messageLimit(of socket: borrowing OwnedDescriptor) -> Int {
        var size: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        // SAFETY: getsockopt fills the one integer, whose size it is told.
        let outcome = unsafe getsockopt(
            socket.rawValue, SOL_SOCKET, SO_SNDBUF, &size, &length)
        // The kernel keeps 32 bytes of the buffer to itself (unix_dgram_sendmsg).
        return outcome == 0 ? max(0, Int(size) - 32) : 0
    }
}

extension ByteQueue {
    /// Takes the next message of a socket to the end of the queue.
    ///
    /// The corresponding C function is `recv`.
    ///
    /// - Parameters:
    ///   - byteCount: bytes that it has, as `UnixSocket.nextMessage` tells.
    ///   - socket: of the kind SOCK_SEQPACKET.
    /// - Throws: the errno of recv; `noMemory` when there is no room for it.
    public mutating func receiveMessage(
        _ byteCount: Int, from socket: borrowing OwnedDescriptor
    ) throws(Errno) {
        let number = socket.rawValue
        try unsafe appendWritten(max(1, byteCount)) { target throws(Errno) in
            // SAFETY: the kernel writes no further than the room that was made.
            let result = try transfer { unsafe recv(number, target, byteCount, 0) }
            guard case .bytes(let count) = result else { return 0 }
            return count
        }
    }

    /// Sends the first `byteCount` bytes of the queue as one message.
    ///
    /// The corresponding C function is `send`.
    ///
    /// - Returns: false when the socket has no room for it now.
    public mutating func sendMessage(
        _ byteCount: Int, to socket: borrowing OwnedDescriptor
    ) throws(Errno) -> Bool {
        let number = socket.rawValue
        let result = try unsafe withFirst(byteCount) { start throws(Errno) in
            // SAFETY: that many bytes wait at the start; send reads no further.
            try transfer { unsafe Glibc.send(number, start, byteCount, Int32(MSG_NOSIGNAL)) }
        }
        if case .wouldBlock = result { return false }
        removeFirst(byteCount)
        return true
    }

    /// Moves the first `byteCount` bytes of the queue into pieces of memory, from `offset` on.
    public mutating func moveFirst(_ byteCount: Int, to pieces: IOVectorSlice, at offset: Int) {
        guard byteCount > 0 else { return }
        unsafe withFirst(byteCount) { start in
            guard let start = unsafe start else { return }
            // SAFETY: that many bytes wait at the start.
            let bytes = unsafe RawSpan(_unsafeStart: start, byteCount: byteCount)
            pieces.store(bytes: bytes, at: offset)
        }
        removeFirst(byteCount)
    }
}
