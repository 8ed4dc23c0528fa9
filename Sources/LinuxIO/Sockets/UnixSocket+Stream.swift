// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// What a look at the bytes that wait in a socket found.
public enum PeekResult<Answer> {
    /// Bytes were there; this is what the caller made of them.
    case bytes(Answer)
    /// No byte is there yet.
    case wouldBlock
    /// The peer will send no more.
    case endOfFile
}

extension UnixSocket {
    /// Bytes that `peek` shows at most.
    public static let peekLimit = 64

    /// Shows the bytes that wait in a socket and leaves them there, at most `peekLimit` of them.
    ///
    /// The corresponding C function is `recv` with MSG_PEEK.
    public static func peek<Answer>(
        _ socket: borrowing OwnedDescriptor, _ body: (Span<UInt8>) -> Answer
    ) throws(Errno) -> PeekResult<Answer> {
        let number = socket.rawValue
        let outcome: Result<PeekResult<Answer>, Errno> = unsafe withUnsafeTemporaryAllocation(
            byteCount: peekLimit, alignment: 1
        ) { buffer in
            do throws(Errno) {
                // SAFETY: the kernel writes no further than the allocation.
                let result = try transfer {
                    unsafe recv(number, buffer.baseAddress, buffer.count, Int32(MSG_PEEK))
                }
                guard case .bytes(let count) = result else {
                    return .success(result == .endOfFile ? .endOfFile : .wouldBlock)
                }
                // SAFETY: that many bytes have been written, and the span ends with the closure.
                let bytes = unsafe UnsafeRawBufferPointer(rebasing: buffer[..<count])
                let span = unsafe Span<UInt8>(_unsafeBytes: bytes)
                return .success(.bytes(body(span)))
            } catch {
                return .failure(error)
            }
        }
        return try outcome.get()
    }

    /// Takes the first `byteCount` bytes off a socket, at most `peekLimit`, and forgets them.
    ///
    /// The corresponding C function is `recv`.
    public static func skip(
        _ byteCount: Int, of socket: borrowing OwnedDescriptor
    ) throws(Errno) -> IOResult {
        let number = socket.rawValue
        let length = min(byteCount, peekLimit)
        let outcome: Result<IOResult, Errno> = unsafe withUnsafeTemporaryAllocation(
            byteCount: peekLimit, alignment: 1
        ) { buffer in
            do throws(Errno) {
                // SAFETY: the kernel writes no further than the allocation.
                return .success(
                    try transfer { unsafe recv(number, buffer.baseAddress, length, 0) })
            } catch {
                return .failure(error)
            }
        }
        return try outcome.get()
    }

    /// Receives from a stream straight into the pieces, and tells whether more may wait.
    ///
    /// At most 1024 pieces (IOV_MAX). Descriptors that a peer sends along are dropped; the kernel
    /// ends a call where they stood, so that fewer bytes than there was room for do not prove that
    /// the socket is empty.
    ///
    /// The corresponding C function is `recvmsg`.
    public static func receiveStream(
        from socket: borrowing OwnedDescriptor, into pieces: IOVectorSlice, byteCount: Int
    ) throws(Errno) -> (result: IOResult, isDrained: Bool) {
        var message = unsafe msghdr()
        unsafe message.msg_iov = pieces.base
        unsafe message.msg_iovlen = pieces.count
        let number = socket.rawValue
        // SAFETY: the kernel fills the pieces, which their list keeps valid.
        let result = try transfer { unsafe recvmsg(number, &message, 0) }
        let wasCut = unsafe message.msg_flags & Int32(MSG_CTRUNC) != 0
        switch result {
        case .bytes(let count): return (result, count < byteCount && !wasCut)
        case .wouldBlock, .endOfFile: return (result, true)
        }
    }

    /// Asks for room for `byteCount` bytes on their way out; the kernel may give less.
    ///
    /// The corresponding C function is `setsockopt` with SO_SNDBUF.
    public static func requestSendBuffer(
        _ byteCount: Int32, of socket: borrowing OwnedDescriptor
    ) {
        var size = byteCount
        // SAFETY: setsockopt reads the one integer. The outcome does not matter: the old room
        // serves as well, with more waits.
        _ = unsafe setsockopt(
            socket.rawValue, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<Int32>.size))
    }
}
