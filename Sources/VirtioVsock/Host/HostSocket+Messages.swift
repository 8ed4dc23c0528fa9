// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage

// Messages (SEQPACKET). A Unix socket takes and gives a message whole, the guest's packets carry it
// in parts: it is put together in the backlog on its way to the host, and in the slot on its way to
// the guest.
extension HostSocket {
    /// Messages that wait before an empty one, which costs the guest no credit, is refused.
    private static var emptyMessageLimit: Int { 4096 }

    /// Makes room for long messages.
    ///
    /// - Returns: bytes that a message may have.
    mutating func beginMessages() -> Int {
        isSequenced = true
        switch descriptor {
        case .none: return 0
        case .some(let socket):
            UnixSocket.requestSendBuffer(Self.sendBufferByteCount, of: socket)
            return UnixSocket.messageLimit(of: socket)
        }
    }

    /// Takes a part of a message in, and sends the message when it is the last one.
    ///
    /// - Parameters:
    ///   - pieces: the payload.
    ///   - byteCount: bytes in it.
    ///   - endsMessage: whether the message is complete.
    ///   - loop: where the socket is registered.
    /// - Returns: what became of the bytes so far; the rest waits.
    mutating func deliverMessagePart(
        _ pieces: IOVectorSlice, byteCount: Int, endsMessage: Bool, loop: EventLoop
    ) -> Delivery {
        let isEmpty = endsMessage && partialMessage + byteCount == 0
        if isEmpty && waitingMessageCount >= Self.emptyMessageLimit {
            return Delivery(forwarded: 0, isRefused: true)
        }
        guard backlog.append(pieces) == byteCount else {
            return Delivery(forwarded: byteCount, isRefused: true)
        }
        partialMessage += byteCount
        if !endsMessage { return Delivery(forwarded: 0, isRefused: false) }
        messageLengths.append(partialMessage)
        partialMessage = 0
        if waitingMessageCount > 1 { return Delivery(forwarded: 0, isRefused: false) }
        return flush(loop: loop)
    }

    /// How long the host's next message is.
    func nextMessage() throws(Errno) -> NextMessage {
        switch descriptor {
        case .none: .endOfFile
        case .some(let socket): try UnixSocket.nextMessage(of: socket)
        }
    }

    /// Takes the host's next message.
    func receiveMessage(_ byteCount: Int, into queue: inout ByteQueue) throws(Errno) {
        switch descriptor {
        case .none: break
        case .some(let socket): try queue.receiveMessage(byteCount, from: socket)
        }
    }
}
