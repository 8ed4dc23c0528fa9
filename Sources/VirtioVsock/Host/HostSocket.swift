// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage

/// The host's end of a connection: a socket, its place in the event loop, and the bytes of the
/// guest that the socket did not take at once.
///
/// Readable events are edge-triggered and always armed: a socket that cannot be served costs one
/// wake-up a change, never a spin. They are put away only while the socket is read by the clock
/// (`Pace`). Writable events are armed exactly while bytes wait.
struct HostSocket: ~Copyable {
    /// Room that a socket is given on its first jam, so that it jams less often.
    static let sendBufferByteCount: Int32 = 512 * 1024

    var descriptor: OwnedDescriptor?
    private var registration: Registration?
    /// What is reported.
    private var armed: Interest = [.readable, .peerClosed, .edgeTriggered]
    /// Whether a connection is under way.
    private(set) var isConnecting = false
    /// Whether the socket is read by the clock, so that nobody is told of its bytes.
    private var isReadByClock = false
    private var hasLargeSendBuffer = false

    /// Bytes that wait for the socket.
    var backlog = ByteQueue()
    /// Lengths of the messages at the front of the backlog that are complete (SEQPACKET).
    var messageLengths: [Int] = []
    /// Of those, how many at the start have been sent.
    private var sentMessageCount = 0
    /// Complete messages that wait.
    var waitingMessageCount: Int { messageLengths.count - sentMessageCount }
    /// Bytes at the end of the backlog of a message that is not complete (SEQPACKET).
    var partialMessage = 0
    /// Whether the socket keeps messages whole.
    var isSequenced = false
    /// Bytes at the front of the backlog that the guest did not send (our own OK line).
    private var uncountedByteCount = 0

    /// What became of bytes on their way to the host.
    struct Delivery {
        /// Bytes of the guest that the socket took, or that nobody will take any more.
        var forwarded: Int
        /// Whether the host reads no more.
        var isRefused: Bool
    }

    init() {}

    var isOpen: Bool {
        switch descriptor {
        case .some: true
        case .none: false
        }
    }

    // MARK: Opening and closing

    /// Takes a connected socket over and has its events reported with the tag.
    mutating func open(
        _ socket: consuming OwnedDescriptor, loop: EventLoop, handler: any EventHandler, tag: Int
    ) throws(Errno) {
        registration = try loop.add(
            socket.rawValue, interest: armed, handler: handler, tag: tag)
        descriptor = consume socket
    }

    /// Closes the socket and forgets what it did not take.
    mutating func close(loop: EventLoop) {
        if let registration { loop.removeBeforeClose(registration) }
        registration = nil
        descriptor = nil
        backlog.removeAll()
        messageLengths = []
        sentMessageCount = 0
        partialMessage = 0
        isSequenced = false
        uncountedByteCount = 0
        armed = [.readable, .peerClosed, .edgeTriggered]
        isReadByClock = false
        isConnecting = false
        hasLargeSendBuffer = false
    }

    /// Closes one half.
    func shutDown(_ half: SocketHalf) {
        switch descriptor {
        case .some(let socket): UnixSocket.shutDown(half, of: socket)
        case .none: break
        }
    }

    /// Whether there are bytes that the socket could take.
    @inline(__always)
    var isWaiting: Bool { isSequenced ? waitingMessageCount > 0 : !backlog.isEmpty }

    // MARK: Interest

    private var interest: Interest {
        var interest: Interest = [.peerClosed, .edgeTriggered]
        if !isReadByClock { interest.insert(.readable) }
        if isWaiting || isConnecting { interest.insert(.writable) }
        return interest
    }

    /// Arms what the present state asks for, when it is not what is armed.
    mutating func updateInterest(loop: EventLoop) {
        let interest = interest
        guard interest != armed, let registration else { return }
        // The registration is current and its descriptor open: the kernel has no reason to refuse.
        try? loop.modify(registration, interest: interest)
        armed = interest
    }

    /// Is told when the connection that is under way has been made.
    mutating func setConnecting(_ isConnecting: Bool, loop: EventLoop) {
        self.isConnecting = isConnecting
        updateInterest(loop: loop)
    }

    /// Is told of bytes no more, or again: then also of those that wait already.
    mutating func setReadByClock(_ isReadByClock: Bool, loop: EventLoop) {
        self.isReadByClock = isReadByClock
        updateInterest(loop: loop)
    }

    // MARK: Towards the host

    /// Sends pieces of guest memory; what the socket does not take is copied.
    ///
    /// - Parameters:
    ///   - pieces: payload of one or more packets.
    ///   - byteCount: bytes in them.
    ///   - loop: where the socket is registered.
    /// - Returns: what became of the bytes so far; the rest waits.
    mutating func deliver(
        _ pieces: IOVectorSlice, byteCount: Int, loop: EventLoop
    ) -> Delivery {
        var sent = 0
        if backlog.isEmpty {
            do {
                sent = try send(pieces, byteCount: byteCount)
            } catch {
                return Delivery(forwarded: byteCount, isRefused: true)
            }
        }
        guard sent < byteCount else { return Delivery(forwarded: byteCount, isRefused: false) }
        let kept = backlog.append(pieces, from: sent)
        guard kept == byteCount - sent else {
            return Delivery(forwarded: byteCount, isRefused: true)
        }
        if hasLargeSendBuffer {
            updateInterest(loop: loop)
            return Delivery(forwarded: sent, isRefused: false)
        }
        let rest = flush(loop: loop)
        return Delivery(forwarded: sent + rest.forwarded, isRefused: rest.isRefused)
    }

    private mutating func send(
        _ pieces: IOVectorSlice, byteCount: Int
    ) throws(Errno) -> Int {
        switch descriptor {
        case .none:
            throw .brokenPipe
        case .some(let socket):
            let result = try UnixSocket.send(pieces, to: socket)
            if case .bytes(let count) = result { return count }
            return 0
        }
    }

    /// Sends bytes of our own, before anything of the guest.
    ///
    /// - Returns: false when the host does not read them.
    mutating func deliverOwn(_ bytes: Span<UInt8>, loop: EventLoop) -> Bool {
        guard backlog.append(bytes) else { return false }
        uncountedByteCount += bytes.count
        if isSequenced { messageLengths.append(bytes.count) }
        return !flush(loop: loop).isRefused
    }

    /// Sends what waits, as far as the socket takes it.
    mutating func flush(loop: EventLoop) -> Delivery {
        let waiting = backlog.count
        var isRefused = false
        do {
            while isWaiting, try sendBacklog() {}
        } catch {
            // Nobody will take them: they count as forwarded, so that the guest does not wait.
            isRefused = true
            forgetBacklog()
        }
        updateInterest(loop: loop)
        return Delivery(forwarded: countedPart(of: waiting - backlog.count), isRefused: isRefused)
    }

    /// Sends once; false when the socket has no room, even when it is given more.
    private mutating func sendBacklog() throws(Errno) -> Bool {
        if try sendOnce() { return true }
        guard !hasLargeSendBuffer else { return false }
        hasLargeSendBuffer = true
        switch descriptor {
        case .none: break
        case .some(let socket):
            UnixSocket.requestSendBuffer(Self.sendBufferByteCount, of: socket)
        }
        return try sendOnce()
    }

    private mutating func sendOnce() throws(Errno) -> Bool {
        switch descriptor {
        case .none: throw .brokenPipe
        case .some(let socket):
            if !isSequenced { return try backlog.send(to: socket) != .wouldBlock }
            let length = messageLengths[sentMessageCount]
            guard try backlog.sendMessage(length, to: socket) else { return false }
            sentMessageCount += 1
            if 2 * sentMessageCount >= messageLengths.count {
                messageLengths.removeFirst(sentMessageCount)
                sentMessageCount = 0
            }
            return true
        }
    }

    /// Forgets what waits.
    ///
    /// - Returns: bytes of the guest that were forgotten.
    mutating func discardBacklog(loop: EventLoop) -> Int {
        let waiting = backlog.count
        forgetBacklog()
        updateInterest(loop: loop)
        return countedPart(of: waiting)
    }

    private mutating func forgetBacklog() {
        backlog.removeAll()
        messageLengths = []
        sentMessageCount = 0
        partialMessage = 0
    }

    private mutating func countedPart(of byteCount: Int) -> Int {
        let uncounted = min(uncountedByteCount, byteCount)
        uncountedByteCount -= uncounted
        return byteCount - uncounted
    }

    // MARK: From the host

    /// Receives straight into pieces of guest memory.
    func receive(
        into pieces: IOVectorSlice, byteCount: Int
    ) throws(Errno) -> (result: IOResult, isDrained: Bool) {
        switch descriptor {
        case .none: (.endOfFile, true)
        case .some(let socket):
            try UnixSocket.receiveStream(from: socket, into: pieces, byteCount: byteCount)
        }
    }

    /// Feeds the bytes that have come to the parser of the handshake, and takes the line's bytes,
    /// and no byte behind them, off the socket.
    func readHandshake(
        _ parser: inout HandshakeParser
    ) throws(Errno) -> HandshakeParser.Outcome {
        switch descriptor {
        case .none: return .malformed
        case .some(let socket):
            while true {
                var seen = 0
                let result = try UnixSocket.peek(socket) { bytes in
                    seen = bytes.count
                    return parser.parse(bytes)
                }
                switch result {
                case .wouldBlock: return .incomplete
                case .endOfFile, .bytes(.malformed): return .malformed
                case .bytes(.incomplete): _ = try UnixSocket.skip(seen, of: socket)
                case .bytes(.port(_, let byteCount)) where isSequenced && byteCount < seen:
                    // What follows the line in its message would be lost with it.
                    return .malformed
                case .bytes(.port(let port, let byteCount)):
                    _ = try UnixSocket.skip(byteCount, of: socket)
                    return .port(port, byteCount: byteCount)
                }
            }
        }
    }

    /// Whether somebody on the host still has the other end, or has left bytes to be read.
    var hasPeer: Bool {
        switch descriptor {
        case .none: false
        case .some(let socket): !UnixSocket.peerHasGone(socket) || hasWaitingBytes
        }
    }

    /// Whether the end of the host's bytes is next.
    ///
    /// - Throws: what would end the next read.
    func isAtEnd() throws(Errno) -> Bool {
        switch descriptor {
        case .none: return true
        case .some(let socket):
            if isSequenced { return try UnixSocket.nextMessage(of: socket) == .endOfFile }
            if case .endOfFile = try UnixSocket.peek(socket, { _ in }) { return true }
            return false
        }
    }

    /// Whether this is an AF_VSOCK socket whose peer takes no more bytes.
    var isVsockWithoutReader: Bool {
        switch descriptor {
        case .none: false
        case .some(let socket): VsockSocket.peerReadsNothing(socket)
        }
    }

    /// Whether bytes of the host wait to be read; false at their end.
    var hasWaitingBytes: Bool {
        switch descriptor {
        case .none: return false
        case .some(let socket):
            // A socket that cannot be read has no bytes for anybody.
            guard let result = try? UnixSocket.peek(socket, { _ in true }) else { return false }
            if case .bytes = result { return true }
            return false
        }
    }
}
