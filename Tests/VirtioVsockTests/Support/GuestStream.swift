// SPDX-License-Identifier: Apache-2.0

/// The guest's end of one connection, which does what Linux 6.1 does: keeps to the credit, gives
/// credit when its queue is empty or nearly full, answers RST to the last shutdown.
final class GuestStream {
    enum State: Equatable {
        case closed
        case requested
        case established
        /// Closed by the guest, which waits for RST.
        case closing
    }

    private unowned let guest: FakeGuest
    let peerPort: UInt32
    let guestPort: UInt32
    var allocation: UInt32
    let type: UInt16
    let peer: UInt64
    private(set) var state = State.closed
    /// Whether RST came.
    private(set) var wasReset = false
    /// What the device said in SHUTDOWN.
    private(set) var peerShutdown: UInt32 = 0

    /// Bytes that have come and have not been read.
    private(set) var queue: [UInt8] = []
    /// Whether bytes are read as soon as they come.
    var readsAtOnce = true
    /// The messages that have come, of a connection that keeps them whole.
    private(set) var messages: [[UInt8]] = []
    private var partialMessage: [UInt8] = []
    /// Everything that was read.
    private(set) var bytesRead: [UInt8] = []
    private var consumed: UInt32 = 0
    private var reported: UInt32 = 0

    /// Bytes that wait for credit.
    private var unsent: ArraySlice<UInt8> = []
    /// Bytes of payload in a packet.
    var packetSize = 65_536
    var layout = FakeGuest.Layout.split
    var isIndirect = false
    private(set) var sentCount: UInt32 = 0
    private(set) var peerAllocation: UInt32 = 0
    private(set) var peerForwarded: UInt32 = 0
    private(set) var creditRequests = 0
    private(set) var creditUpdates = 0

    init(
        _ guest: FakeGuest, peerPort: UInt32, guestPort: UInt32, allocation: UInt32,
        type: UInt16 = 1, peer: UInt64 = 2
    ) {
        self.peer = peer
        self.type = type
        self.guest = guest
        self.peerPort = peerPort
        self.guestPort = guestPort
        self.allocation = allocation
        guest.streams.append(self)
    }

    func owns(_ packet: Packet) -> Bool {
        packet.sourceCID == peer && packet.sourcePort == peerPort
            && packet.destinationPort == guestPort && state != .closed
    }

    // MARK: Sending

    func packet(_ operation: UInt16) -> Packet {
        var packet = Packet()
        packet.sourceCID = guest.cid
        packet.destinationCID = peer
        packet.sourcePort = guestPort
        packet.destinationPort = peerPort
        packet.operation = operation
        packet.type = type
        packet.bufferAllocation = allocation
        packet.forwardCount = consumed
        reported = consumed
        return packet
    }

    func send(_ operation: UInt16, flags: UInt32 = 0) {
        var packet = packet(operation)
        packet.flags = flags
        guest.send(packet)
    }

    func request() {
        state = .requested
        send(Packet.request)
    }

    func respond(to request: Packet) {
        peerAllocation = request.bufferAllocation
        peerForwarded = request.forwardCount
        state = .established
        send(Packet.response)
    }

    /// Queues bytes and sends what the credit allows.
    func write(_ bytes: [UInt8]) {
        unsent += bytes
        pump()
    }

    /// Bytes that wait for credit.
    var unsentCount: Int { unsent.count }

    /// Linux's rule: never more under way than the smaller of both buffers.
    var credit: Int {
        max(0, Int(min(peerAllocation, allocation)) - Int(sentCount &- peerForwarded))
    }

    private func pump() {
        while state == .established, !unsent.isEmpty, credit > 0 {
            var packet = packet(Packet.readWrite)
            packet.payload = Array(unsent.prefix(min(packetSize, credit)))
            guard guest.send(packet, layout: layout, indirect: isIndirect) else { return }
            unsent = unsent.dropFirst(packet.payload.count)
            sentCount &+= UInt32(packet.payload.count)
        }
    }

    /// Goes on after the ring had no room.
    func resume() { pump() }

    func shutDown(_ flags: UInt32) {
        send(Packet.shutdown, flags: flags)
    }

    func close() {
        state = .closing
        send(Packet.shutdown, flags: 3)
    }

    func reset() {
        send(Packet.reset)
        state = .closed
    }

    // MARK: Receiving

    func receive(_ packet: Packet) {
        peerAllocation = packet.bufferAllocation
        peerForwarded = packet.forwardCount
        switch packet.operation {
        case Packet.response where state == .requested: state = .established
        case Packet.reset:
            state = .closed
            wasReset = true
        case Packet.readWrite where state == .established:
            if type == 2 { receiveMessagePart(packet) }
            queue += packet.payload
            if readsAtOnce { read() }
        case Packet.creditRequest:
            creditRequests += 1
            if state == .established { send(Packet.creditUpdate) }
        case Packet.creditUpdate: creditUpdates += 1
        case Packet.shutdown: receiveShutdown(packet.flags)
        default: break
        }
        pump()
    }

    private func receiveMessagePart(_ packet: Packet) {
        partialMessage += packet.payload
        if packet.flags & 1 == 0 { return }
        messages.append(partialMessage)
        partialMessage = []
    }

    /// Sends a message as Linux does, in packets of `packetSize` bytes at most.
    func writeMessage(_ message: [UInt8], isComplete: Bool = true) {
        var rest = message[...]
        repeat {
            var packet = packet(Packet.readWrite)
            packet.payload = Array(rest.prefix(packetSize))
            rest = rest.dropFirst(packetSize)
            if rest.isEmpty && isComplete { packet.flags = 1 }
            guest.send(packet, layout: layout)
            sentCount &+= UInt32(packet.payload.count)
        } while !rest.isEmpty
    }

    private func receiveShutdown(_ flags: UInt32) {
        peerShutdown |= flags
        guard peerShutdown == 3, state == .established else { return }
        // With bytes unread, Linux answers when the application closes.
        if queue.isEmpty { reset() }
    }

    /// Takes what was read, as a program does that keeps nothing.
    func takeRead() -> [UInt8] {
        defer { bytesRead = [] }
        return bytesRead
    }

    /// Reads bytes that have come, and gives credit as Linux does.
    func read(_ limit: Int = .max) {
        let taken = queue.prefix(limit)
        if taken.isEmpty { return }
        bytesRead += taken
        queue.removeFirst(taken.count)
        consumed &+= UInt32(taken.count)
        let free = allocation &- (consumed &- reported)
        if free < 65_536 || queue.isEmpty { send(Packet.creditUpdate) }
    }
}
