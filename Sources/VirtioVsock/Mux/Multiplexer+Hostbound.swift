// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Virtio

// Packets from the guest. Payload of consecutive packets of one connection is gathered and goes to
// the host's socket in one call, straight from guest memory; only then are the chains given back.
// Every chain is given back, whatever was in it.
extension Multiplexer {
    /// Chains taken from the guest before everybody else has a turn.
    static let packetsPerTurn = 256
    /// Bytes taken from the guest before everybody else has a turn, a run more or less.
    private static let bytesPerTurnFromGuest: UInt64 = 1024 * 1024
    /// How long a signal for used credit updates is put off at most.
    private static let signalDelay = Duration.milliseconds(1)

    /// Takes the guest's packets, as many as the budget allows.
    func serveHostbound() {
        guard hostboundIsDue, let queue = hostboundQueue else { return }
        var left = Self.packetsPerTurn
        let byteLimit = counters.value.bytesFromGuest &+ Self.bytesPerTurnFromGuest
        // Each packet may have to be refused: none is taken that could not be.
        while left > 0 && !resets.isFull && counters.value.bytesFromGuest < byteLimit {
            left -= 1
            guard let buffer = takePacket(queue) else {
                hostboundIsDue = false
                break
            }
            accept(buffer)
            finished[finishedCount] = buffer.id
            finishedCount &+= 1
        }
        endRun()
        notePass(packetCount: finishedCount, isQuiet: !isSignalDue)
        giveBack(to: queue)
    }

    private func giveBack(to queue: Virtqueue) {
        for index in 0..<finishedCount {
            queue.put(UsedBuffer(id: finished[index], writtenLength: 0))
        }
        finishedCount = 0
        queue.flush()
    }

    /// Signals that chains were used; for credit updates alone, later.
    ///
    /// Comes behind what the turn has for the guest, which then finds both with one wake-up.
    /// A guest that reads much sends little else, and nobody there waits for the end of such a
    /// packet unless the ring is full. A quarter of the ring is signalled at once all the same, and
    /// every chain within a millisecond.
    func signalHostbound() {
        guard let queue = hostboundQueue else { return }
        if isSignalDue || unsignalledCount >= queue.size / 4 {
            isSignalDue = false
            unsignalledCount = 0
            queue.signal()
        } else if unsignalledCount > 0 && !signalTimerIsSet {
            signalTimerIsSet = true
            loop.setTimer(after: Self.signalDelay, handler: self, tag: TimerTag.signal.rawValue)
        }
    }

    @inline(__always)
    private func takePacket(_ queue: Virtqueue) -> Buffer? {
        let wasBroken = queue.breakage != nil
        packetPieces[0].removeAll()
        do {
            return try queue.take(&packetPieces[0])
        } catch {
            if !wasBroken { report(error, of: "tx") }
            return nil
        }
    }

    // MARK: One packet

    @inline(__always)
    private func accept(_ buffer: Buffer) {
        counters.value.packetsFromGuest &+= 1
        unsignalledCount &+= 1
        let packet = packetPieces[0].slice(buffer.readablePieces)
        guard let header = VsockHeader(packet) else {
            counters.value.malformedPackets &+= 1
            isSignalDue = true
            return
        }
        guard header.sourceCID == UInt64(guest.rawValue) else {
            counters.value.foreignPackets &+= 1
            isSignalDue = true
            return
        }
        if let capture { capture.record(header, packet) }
        let room = buffer.readableLength &- UInt64(VsockHeader.byteCount)
        let isWhole = UInt64(header.length) <= room && buffer.writablePieceCount == 0
        guard let slot = find(header) else {
            acceptStray(header, isWhole: isWhole)
            return
        }
        guard isWhole else {
            // A piece of the stream is missing for good.
            counters.value.malformedPackets &+= 1
            isSignalDue = true
            endRun()
            table.slots[slot].connection.reset()
            hostboundEnded(slot)
            return
        }
        if slot != runSlot { endRun() }
        if header.operation != Operation.creditUpdate.rawValue { isSignalDue = true }
        table.slots[slot].traffic.packetsFromGuest &+= 1
        perform(table.slots[slot].connection.receive(header), slot, header, packet)
    }

    /// The connection that a packet belongs to; nil when there is none of its ports and type.
    @inline(__always)
    private func find(_ header: VsockHeader) -> Int? {
        guard header.destinationCID >> 32 == 0,
            let slot = table.find(key(of: header)),
            table.slots[slot].connection.type.rawValue == header.type
        else { return nil }
        return slot
    }

    @inline(__always)
    func key(of header: VsockHeader) -> ConnectionKey {
        ConnectionKey(
            peer: ContextID(rawValue: UInt32(truncatingIfNeeded: header.destinationCID)),
            peerPort: VsockPort(rawValue: header.destinationPort),
            guestPort: VsockPort(rawValue: header.sourcePort))
    }

    /// A packet of no connection: a new one is asked for, or RST is the answer.
    ///
    /// RST itself is never answered.
    private func acceptStray(_ header: VsockHeader, isWhole: Bool) {
        isSignalDue = true
        endRun()
        if header.operation == Operation.reset.rawValue { return }
        if isWhole, header.operation == Operation.request.rawValue,
            isReachable(header.destinationCID), let type = PacketType(rawValue: header.type),
            isServed(type)
        {
            if table.find(key(of: header)) == nil, open(header, type) { return }
        }
        counters.value.refusals &+= 1
        resets.refuse(header)
    }

    private func isServed(_ type: PacketType) -> Bool { type == .stream || carriesMessages }

    @inline(__always)
    private func perform(
        _ effect: Connection.Effect, _ slot: Int, _ header: VsockHeader, _ packet: IOVectorSlice
    ) {
        if effect == .deliver && table.slots[slot].connection.type == .stream {
            gather(slot, packet, byteCount: Int(header.length))
        } else {
            endRun()
            performOther(effect, slot, header, packet)
        }
    }

    @inline(never)
    private func performOther(
        _ effect: Connection.Effect, _ slot: Int, _ header: VsockHeader, _ packet: IOVectorSlice
    ) {
        switch effect {
        case .none:
            refresh(slot)
        case .deliver:
            deliverMessagePart(slot, header, packet)
        case .discard:
            table.slots[slot].connection.forwarded(Int(header.length))
            refresh(slot)
        case .opened:
            clientAccepted(slot)
        case .shutDown:
            guestShutDown(slot)
        case .reset:
            counters.value.violations &+= 1
            hostboundEnded(slot)
        case .closed:
            hostboundEnded(slot)
        case .forgotten:
            forgotten(slot)
        }
    }

    // MARK: Payload

    @inline(__always)
    private func gather(_ slot: Int, _ packet: IOVectorSlice, byteCount: Int) {
        if gathered[0].count &+ packet.count > Self.piecesPerCall { endRun() }
        runSlot = slot
        gathered[0].append(packet, from: VsockHeader.byteCount, byteCount: byteCount)
    }

    /// Hands what was gathered to its socket.
    func endRun() {
        guard runSlot >= 0 else { return }
        let slot = runSlot
        runSlot = -1
        interruptPace(slot)
        advanceCredit(slot)
        var start = 0
        while start < gathered[0].count {
            let end = min(start + Self.piecesPerCall, gathered[0].count)
            let part = gathered[0].slice(start..<end)
            let byteCount = part.byteCount
            counters.value.bytesFromGuest &+= UInt64(byteCount)
            table.slots[slot].traffic.bytesFromGuest &+= UInt64(byteCount)
            let delivery = table.slots[slot].host.deliver(part, byteCount: byteCount, loop: loop)
            account(delivery, slot)
            start = end
        }
        gathered[0].removeAll()
        refresh(slot)
    }

    /// Tells a guest that has used up much of its credit of more before its bytes are copied: it
    /// goes on meanwhile.
    private func advanceCredit(_ slot: Int) {
        guard !table.slots[slot].host.isWaiting, table.slots[slot].connection.advanceCredit()
        else { return }
        sendCreditUpdate(slot)
    }

    /// Adds a packet to the message that it belongs to.
    private func deliverMessagePart(_ slot: Int, _ header: VsockHeader, _ packet: IOVectorSlice) {
        let byteCount = Int(header.length)
        gathered[0].append(packet, from: VsockHeader.byteCount, byteCount: byteCount)
        counters.value.bytesFromGuest &+= UInt64(byteCount)
        table.slots[slot].traffic.bytesFromGuest &+= UInt64(byteCount)
        let delivery = table.slots[slot].host.deliverMessagePart(
            gathered[0].all, byteCount: byteCount,
            endsMessage: header.flags & MessageFlags.endOfMessage != 0, loop: loop)
        gathered[0].removeAll()
        account(delivery, slot)
        refresh(slot)
    }

    /// Notes what became of bytes on their way to the host.
    func account(_ delivery: HostSocket.Delivery, _ slot: Int) {
        if delivery.isRefused { table.slots[slot].connection.hostShutDown(.receive) }
        table.slots[slot].connection.forwarded(delivery.forwarded)
    }
}
