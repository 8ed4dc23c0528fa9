// SPDX-License-Identifier: Apache-2.0

public import LinuxIO
public import SystemPackage

/// A reply of the back-end, as it came.
public struct Reply {
    public let request: UInt32
    public let flags: UInt32
    public let payload: [UInt8]
    public let descriptors: ReceivedDescriptors

    /// The payload as one integer.
    public var integer: UInt64 { FrontEndMessage.integer(payload) }
}

/// What a front-end ran into.
public enum FrontEndError: Error, Equatable {
    /// No reply came in time.
    case noReply(to: UInt32)
    /// The back-end has closed the connection.
    case closed
    /// A reply came to another request than the last one.
    case unexpectedReply(request: UInt32, to: UInt32)
    /// Reply flags that a front-end refuses.
    case illegalReplyFlags(UInt32)
    /// The back-end said that it could not.
    case refused(request: UInt32, code: UInt64)
    /// The back-end does not offer what this front-end cannot do without.
    case missingFeature(UInt64)
}

/// The VMM's end of a vhost-user connection: sends any message with any descriptors, in any number
/// of pieces, and reads the replies.
///
/// It shares nothing with the back-end's sources. One thread uses it. The back-end may run in
/// another process, on another thread, or on this one: then `pump` gives it its turn.
public final class FrontEnd {
    /// Flags of a request: version 1.
    public static let requestFlags: UInt32 = 0x1
    /// Flags of a request that wants to be acknowledged.
    public static let needReplyFlags: UInt32 = 0x9
    /// Flags that a reply must have.
    public static let replyFlags: UInt32 = 0x5

    private var socket: Socket?
    private let waiter: EventLoop
    private let clock = SystemClock()
    /// Gives a back-end on this thread its turn; it may wait a moment, not longer.
    public var pump: (() throws -> Void)?
    /// How long to wait for a reply.
    public var timeout = Duration.seconds(60)

    // What was negotiated.
    public var offeredFeatures: UInt64 = 0
    public var features: UInt64 = 0
    public var protocolFeatures: UInt64 = 0

    /// Takes over a connected socket.
    public init(taking socket: consuming OwnedDescriptor) throws(Errno) {
        let socket = Socket(socket)
        self.socket = socket
        waiter = try EventLoop()
        try waiter.add(socket.descriptor.rawValue, interest: .readable, handler: Sink())
    }

    /// Connects to a back-end that listens.
    public convenience init(path: String) throws {
        guard let address = UnixAddress(path: path) else { throw Errno.fileNameTooLong }
        try self.init(taking: try UnixSocket.connect(to: address))
    }

    /// Leaves without a word.
    ///
    /// A process that another test is just starting may hold the socket, too, for a moment; the
    /// back-end is to see the end now.
    public func disconnect() {
        if let socket { UnixSocket.shutDown(.both, of: socket.descriptor) }
        socket = nil
    }

    /// Whether acknowledgements were negotiated.
    public var hasAcknowledgements: Bool {
        protocolFeatures & ProtocolFeatureBit.replyAcknowledgement != 0
    }

    // MARK: Sending

    /// Sends bytes in one piece, with descriptors at the first of them.
    public func sendRaw(_ bytes: [UInt8], descriptors: [Int32] = []) throws {
        var rest = bytes[...]
        var descriptors = descriptors
        while !rest.isEmpty {
            let result = try transmit(Array(rest), descriptors)
            if case .bytes(let count) = result {
                rest = rest.dropFirst(count)
                descriptors = []
            } else {
                try wait()
            }
        }
    }

    private func transmit(_ bytes: [UInt8], _ descriptors: [Int32]) throws -> IOResult {
        guard let socket else { throw FrontEndError.closed }
        do throws(Errno) {
            return try UnixSocket.send(bytes, descriptors: descriptors, to: socket.descriptor)
        } catch {
            if error == .brokenPipe || error == .connectionReset { throw FrontEndError.closed }
            throw error
        }
    }

    /// Sends a message and waits for nothing.
    public func send(_ message: FrontEndMessage, flags: UInt32 = requestFlags) throws {
        try sendRaw(message.bytes(flags: flags), descriptors: message.descriptors)
    }

    /// Sends a message that has a reply of its own.
    public func ask(_ message: FrontEndMessage, flags: UInt32 = requestFlags) throws -> Reply {
        try send(message, flags: flags)
        return try readReply(to: message.request)
    }

    /// Sends a message that wants to be acknowledged.
    ///
    /// - Returns: what the back-end says: 0 for success.
    public func acknowledgement(of message: FrontEndMessage) throws -> UInt64 {
        try ask(message, flags: Self.needReplyFlags).integer
    }

    /// Sends a message; where acknowledgements were negotiated, waits for a good one.
    public func require(_ message: FrontEndMessage) throws {
        guard hasAcknowledgements else { return try send(message) }
        let code = try acknowledgement(of: message)
        if code != 0 { throw FrontEndError.refused(request: message.request, code: code) }
    }

    /// Waits until every message so far has been dealt with.
    public func synchronize() throws {
        _ = try ask(.getFeatures)
    }

    // MARK: Receiving

    /// Reads the reply to a request, and checks its header.
    public func readReply(to request: UInt32) throws -> Reply {
        guard let reply = try readReply(within: timeout) else {
            throw FrontEndError.noReply(to: request)
        }
        guard reply.request == request else {
            throw FrontEndError.unexpectedReply(request: reply.request, to: request)
        }
        guard reply.flags == Self.replyFlags else {
            throw FrontEndError.illegalReplyFlags(reply.flags)
        }
        return reply
    }

    /// Reads whatever comes next.
    ///
    /// - Parameter limit: how long to wait for it.
    /// - Returns: nil when nothing came.
    /// - Throws: `closed` when the back-end has closed the connection.
    public func readReply(within limit: Duration) throws -> Reply? {
        let deadline = clock.now.advanced(byNanoseconds: limit.wholeNanoseconds)
        guard let (header, descriptors) = try read(12, until: deadline) else { return nil }
        let size: UInt32 = FrontEndMessage.integer(header[8..<12])
        var payload: [UInt8] = []
        if size > 0 { payload = try read(Int(size), until: deadline)?.bytes ?? [] }
        return Reply(
            request: FrontEndMessage.integer(header[0..<4]),
            flags: FrontEndMessage.integer(header[4..<8]), payload: payload,
            descriptors: descriptors)
    }

    /// Whether the back-end closes the connection, or has; what it still says is thrown away.
    public func isClosed(within limit: Duration? = nil) throws -> Bool {
        do {
            while try readReply(within: limit ?? timeout) != nil {}
            return false
        } catch FrontEndError.closed {
            return true
        }
    }

    private func read(
        _ count: Int, until deadline: Instant
    ) throws -> (bytes: [UInt8], ReceivedDescriptors)? {
        var bytes: [UInt8] = []
        var first: ReceivedDescriptors?
        while bytes.count < count {
            let (more, descriptors) = try receive(upTo: count - bytes.count)
            if !more.isEmpty {
                bytes += more
                first = first ?? descriptors
                continue
            }
            if clock.now > deadline { return nil }
            try wait()
        }
        return (bytes, first ?? ReceivedDescriptors())
    }

    private func receive(
        upTo limit: Int
    ) throws -> (ArraySlice<UInt8>, ReceivedDescriptors) {
        guard let socket else { throw FrontEndError.closed }
        do throws(Errno) {
            let (result, bytes, descriptors) = try UnixSocket.receive(
                from: socket.descriptor, upTo: limit)
            if result == .endOfFile { throw Errno.connectionReset }
            return (bytes, descriptors)
        } catch {
            if error == .connectionReset { throw FrontEndError.closed }
            throw error
        }
    }

    /// Lets the back-end do something.
    private func wait() throws {
        if let pump {
            try pump()
        } else {
            try waiter.turn(waitingAtMost: .milliseconds(1))
        }
    }
}

/// A socket that can be given up.
private final class Socket {
    let descriptor: OwnedDescriptor

    init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
}

/// Something to register for, when all that counts is that the wait ends.
private final class Sink: EventHandler {
    func descriptorReady(_ readiness: Readiness, tag: Int) {}
}
