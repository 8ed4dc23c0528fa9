// SPDX-License-Identifier: Apache-2.0

/// One connection between the guest and somebody outside, without the socket that leads there.
///
/// ## The protocol in ten lines (virtio 1.3 §5.10.6)
///
/// Whoever connects sends REQUEST; the other side answers RESPONSE, or RST to refuse. Then both
/// send RW packets with payload, within the credit that the other side grants. Every packet
/// carries the sender's credit (buf_alloc, fwd_cnt); CREDIT_UPDATE carries nothing else, and
/// CREDIT_REQUEST asks for one. SHUTDOWN says for good that its sender will not receive (1), not
/// send (2), or both (3). The side that gets SHUTDOWN(3) answers RST; the connection is over then.
/// RST at any other moment ends the connection at once.
///
/// ## Choices
///
/// - What is owed to the guest is a set of flags (`pending`), never a queue of packets: nothing is
///   sent twice or lost, and a guest that posts no receive buffers costs no memory.
/// - Order: RST, then RESPONSE or REQUEST, then RW, then SHUTDOWN, then credit. A guest that waits
///   for RESPONSE takes anything else for an error.
/// - A guest that closes (SHUTDOWN 3) gets its RST at once. Bytes that the host has not taken yet
///   live on with the socket (`lingering`).
/// - A host that closes is drained first; then SHUTDOWN(3) goes out, after which nothing may be
///   sent. The connection keeps its ports until RST has come, or `closing` has lasted longer than
///   the guest's own patience of 8 s, so that they are not used again too early.
/// - A second REQUEST, a RESPONSE that nobody asked for, more bytes than granted, or consumption of
///   bytes never sent: RST.
///
/// ## States
///
/// ```
/// client ─ handshaking ─ connectingToGuest ──RESPONSE──► established ──host closed──► closing
/// REQUEST ─ connectingToHost ──connected, RESPONSE owed──► established                  │
///                                      guest closed, or violation │                    │RST, or time
///                                                                 ▼                    ▼
///                                                             resetting ──RST sent──► free
///                                                                 └──bytes left──► lingering
/// ```
struct Connection: BitwiseCopyable {
    /// Where the connection stands.
    enum Phase: UInt8, BitwiseCopyable {
        /// Not a connection.
        case free
        /// A host's client has connected and has not named a port yet. Unknown to the guest.
        case handshaking
        /// The guest has asked; the host's listener has no room for us yet.
        case connectingToHost
        /// The guest is asked; it has not answered yet.
        case connectingToGuest
        /// Payload flows.
        case established
        /// The guest has been told SHUTDOWN(3) and owes RST.
        case closing
        /// RST is owed to the guest; it hears nothing else any more.
        case resetting
        /// The guest has forgotten the connection; the host's socket still has to take bytes.
        case lingering
    }

    /// Packets that are owed to the guest.
    struct Pending: OptionSet, BitwiseCopyable {
        let rawValue: UInt8
        static let reset = Pending(rawValue: 1 << 0)
        static let response = Pending(rawValue: 1 << 1)
        static let request = Pending(rawValue: 1 << 2)
        static let shutdown = Pending(rawValue: 1 << 3)
        static let creditUpdate = Pending(rawValue: 1 << 4)
        static let creditRequest = Pending(rawValue: 1 << 5)
    }

    /// What the owner of the host's socket has to do about a packet of the guest.
    enum Effect: Equatable {
        /// Nothing; perhaps more is owed to the guest, or may be sent, than before.
        case none
        /// The payload is for the host.
        case deliver
        /// The payload is counted, but nobody wants it.
        case discard
        /// The guest has accepted the connection.
        case opened
        /// The guest has closed a half: see `guestShutdown`.
        case shutDown
        /// The guest has closed: RST is owed, the host's side ends.
        case closed
        /// The guest has broken the protocol: RST is owed, the host's side ends.
        case reset
        /// The guest has forgotten the connection.
        case forgotten
    }

    var phase = Phase.free
    let type: PacketType
    var key: ConnectionKey
    private(set) var pending: Pending = []
    private(set) var hostbound: HostboundCredit
    private(set) var guestbound = GuestboundCredit()

    /// Halves that the guest has closed.
    private(set) var guestShutdown: ShutdownFlags = []
    /// Halves that the host's side has closed, whether or not the guest knows.
    private(set) var hostShutdown: ShutdownFlags = []
    /// What the guest has been told of `hostShutdown`.
    private var announcedShutdown: ShutdownFlags = []

    /// Whether the host's socket may have bytes for us, or its end.
    private(set) var isReadable = false
    /// Whether the end of the host's bytes may be in the socket behind the bytes that wait: it is
    /// announced once, so the socket is read until there is nothing at all.
    private var isEnding = false
    /// Whether a part of a message of the host is still to be sent (SEQPACKET).
    var isMidMessage = false
    /// Whether the guest has been asked for credit since it last gave some.
    private var hasAskedForCredit = false

    init(key: ConnectionKey = ConnectionKey(), type: PacketType = .stream, allocation: UInt32) {
        self.key = key
        self.type = type
        hostbound = HostboundCredit(allocation: allocation)
    }

    // MARK: What is owed to the guest

    /// The packet to send next; nil when there is none to send now.
    @inline(__always)
    var nextOperation: Operation? {
        if pending.isEmpty && !isReadable && !isMidMessage { return nil }
        if pending.contains(.reset) { return .reset }
        if pending.contains(.response) { return .response }
        if pending.contains(.request) { return .request }
        if maySendPayload { return .readWrite }
        if pending.contains(.shutdown) { return .shutdown }
        if pending.contains(.creditUpdate) { return .creditUpdate }
        if pending.contains(.creditRequest) || lacksCredit { return .creditRequest }
        return nil
    }

    /// Whether the host's socket is to be read for the guest.
    @inline(__always)
    var wantsPayload: Bool {
        (isReadable || isMidMessage) && phase == .established
            && !hostShutdown.contains(.send) && !guestShutdown.contains(.receive)
    }

    @inline(__always)
    private var maySendPayload: Bool {
        wantsPayload && guestbound.available > 0 && guestbound.availablePackets > 0
    }

    private var lacksCredit: Bool { wantsPayload && !hasAskedForCredit }

    /// Whether the end of the host's bytes may be all that is left in a socket that the guest grants no
    /// credit to read.
    var mayHideEnd: Bool { isEnding && wantsPayload && !isMidMessage && !maySendPayload }

    /// The header of a packet to the guest.
    @inline(__always)
    func header(_ operation: Operation, guest: ContextID) -> VsockHeader {
        var header = VsockHeader()
        header.sourceCID = UInt64(key.peer.rawValue)
        header.destinationCID = UInt64(guest.rawValue)
        header.sourcePort = key.peerPort.rawValue
        header.destinationPort = key.guestPort.rawValue
        header.type = type.rawValue
        header.operation = operation.rawValue
        header.bufferAllocation = hostbound.allocation
        header.forwardCount = hostbound.forwardCount
        if operation == .shutdown { header.flags = hostShutdown.rawValue }
        return header
    }

    /// A packet without payload has been sent.
    mutating func sent(_ operation: Operation) {
        reported()
        switch operation {
        case .reset: pending = []
        case .response: pending.remove(.response)
        case .request: pending.remove(.request)
        case .shutdown:
            pending.remove(.shutdown)
            announcedShutdown = hostShutdown
            if hostShutdown == .both { enterClosing() }
        case .creditRequest:
            pending.remove(.creditRequest)
            hasAskedForCredit = true
        case .creditUpdate, .readWrite: break
        }
    }

    /// A packet with payload has been sent.
    ///
    /// - Parameters:
    ///   - byteCount: bytes of payload.
    ///   - fillsBuffer: whether the guest's receive buffer is full.
    @inline(__always)
    mutating func sentPayload(_ byteCount: Int, fillsBuffer: Bool) {
        guestbound.send(byteCount, fillsBuffer: fillsBuffer)
        reported()
    }

    /// Every packet tells the guest of its credit.
    @inline(__always)
    private mutating func reported() {
        hostbound.report()
        pending.remove(.creditUpdate)
    }

    private mutating func enterClosing() {
        phase = .closing
        pending = []
        isReadable = false
        isMidMessage = false
    }

    // MARK: What happens on the host's side

    /// The host's socket takes no more than this at once (SEQPACKET); known before the guest is
    /// told of its credit.
    mutating func limitCredit(to byteCount: Int) {
        let allocation = min(hostbound.allocation, UInt32(clamping: byteCount))
        hostbound = HostboundCredit(allocation: allocation)
    }

    /// The host's side is to be asked of the guest.
    mutating func beginConnectingToGuest(key: ConnectionKey) {
        self.key = key
        phase = .connectingToGuest
        pending = .request
    }

    /// The host's listener has accepted what the guest asked for.
    mutating func connectedToHost() {
        phase = .established
        pending.insert(.response)
    }

    /// Everything that is held is about to be handed to a socket on which nothing waits.
    ///
    /// - Returns: whether the guest is to be told of the room for more before that.
    @inline(__always)
    mutating func advanceCredit() -> Bool {
        guard phase == .established,
            hostbound.advance(guestAllocation: guestbound.allocation)
        else { return false }
        pending.insert(.creditUpdate)
        return true
    }

    /// The host took bytes of the guest, or nobody wants them any more.
    @inline(__always)
    mutating func forwarded(_ byteCount: Int) {
        hostbound.forward(byteCount)
        if phase == .established,
            hostbound.updateIsDue(guestAllocation: guestbound.allocation)
        {
            pending.insert(.creditUpdate)
        }
    }

    /// The host's socket has bytes, and with `isEnding` perhaps the end of them.
    mutating func hostReadable(isEnding: Bool) {
        if hostShutdown.contains(.send) { return }
        isReadable = true
        if isEnding { self.isEnding = true }
    }

    /// The bytes that were in the host's socket have been read.
    @inline(__always)
    mutating func hostDrained() {
        isReadable = isEnding
    }

    /// There is nothing in the host's socket, not even the end.
    mutating func hostEmpty() {
        isReadable = false
        isEnding = false
    }

    /// The host's side has closed halves.
    mutating func hostShutDown(_ halves: ShutdownFlags) {
        hostShutdown.formUnion(halves)
        if hostShutdown.contains(.send) { isReadable = false }
        if phase == .established, hostShutdown != announcedShutdown { pending.insert(.shutdown) }
    }

    /// Ends the connection: RST is owed to the guest, and nothing else.
    mutating func reset() {
        phase = .resetting
        pending = .reset
        isReadable = false
        isMidMessage = false
    }
}

extension Connection {
    // MARK: What the guest says

    /// Takes a packet of the guest in.
    ///
    /// - Parameter header: of a packet with this connection's ports and type.
    /// - Returns: what to do about the host's socket.
    @inline(__always)
    mutating func receive(_ header: VsockHeader) -> Effect {
        guard phase == .established, header.operation == Operation.readWrite.rawValue else {
            return receiveOther(header)
        }
        guard takeCredit(of: header), hostbound.receive(header.length) else { return violation() }
        if guestShutdown.contains(.send) { return violation() }
        return hostShutdown.contains(.receive) ? .discard : .deliver
    }

    @inline(never)
    private mutating func receiveOther(_ header: VsockHeader) -> Effect {
        let operation = Operation(rawValue: header.operation)
        if operation == .reset {
            // Bytes before it may still be on their way to the host: no credit is owed for them.
            if phase == .established { enterClosing() }
            return .forgotten
        }
        if phase == .resetting { return .none }
        guard let operation, takeCredit(of: header) else { return violation() }
        switch phase {
        case .established: return receiveEstablished(operation, header)
        case .connectingToGuest: return receiveAnswer(operation)
        case .closing: return receiveClosing(operation, header)
        case .free, .handshaking, .connectingToHost, .resetting, .lingering: return violation()
        }
    }

    private mutating func receiveEstablished(
        _ operation: Operation, _ header: VsockHeader
    ) -> Effect {
        switch operation {
        case .shutdown:
            return receiveShutdown(header)
        case .creditUpdate:
            return .none
        case .creditRequest:
            pending.insert(.creditUpdate)
            return .none
        case .request, .response, .readWrite, .reset:
            return violation()
        }
    }

    private mutating func receiveShutdown(_ header: VsockHeader) -> Effect {
        let halves = ShutdownFlags(rawValue: header.flags).intersection(.both)
        if guestShutdown.isSuperset(of: halves) { return .none }
        guestShutdown.formUnion(halves)
        if guestShutdown == .both {
            reset()
            return .closed
        }
        return .shutDown
    }

    private mutating func receiveAnswer(_ operation: Operation) -> Effect {
        guard operation == .response, !pending.contains(.request) else { return violation() }
        phase = .established
        if hostShutdown != announcedShutdown { pending.insert(.shutdown) }
        return .opened
    }

    /// Both sides may close at the same moment: the guest then waits for RST as we do, and a
    /// closing guest looks at nothing else.
    private mutating func receiveClosing(
        _ operation: Operation, _ header: VsockHeader
    ) -> Effect {
        switch operation {
        case .shutdown: return receiveShutdown(header) == .closed ? .closed : .none
        case .request: return violation()
        case .response, .readWrite, .creditUpdate, .creditRequest, .reset: return .none
        }
    }

    /// The credit fields of a packet; false when they cannot be true.
    @inline(__always)
    private mutating func takeCredit(of header: VsockHeader) -> Bool {
        let before = (guestbound.acknowledged, guestbound.allocation)
        guard
            guestbound.update(
                allocation: header.bufferAllocation, forwardCount: header.forwardCount)
        else { return false }
        if before != (guestbound.acknowledged, guestbound.allocation) { hasAskedForCredit = false }
        return true
    }

    private mutating func violation() -> Effect {
        reset()
        return .reset
    }

    /// The credit of the guest's REQUEST, which opens the connection.
    mutating func open(with header: VsockHeader) {
        _ = takeCredit(of: header)
    }
}
