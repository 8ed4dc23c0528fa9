// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage
import Virtio

// Packets for the guest. A socket is read straight into the payload parts of many receive buffers
// at once; then their headers are written. Whoever has more than a turn's worth goes to the end of
// the line.
extension Multiplexer {
    /// Receive buffers that one read of a socket may fill.
    static let buffersPerRead = 256
    /// Bytes that one read of a socket may bring.
    static let bytesPerRead = 256 * 1024
    /// Bytes for the guest before everybody else on the loop has a turn; a packet costs some, too.
    private static let bytesPerTurn = 1024 * 1024
    private static let bytesPerPacket = 256
    /// Bytes for the guest in one turn that are a sign of more to come.
    private static let bulk: UInt64 = 64 * 1024
    /// Looks at the queue before it counts as empty, should the driver add buffers all the time.
    private static let takeAttempts = 4

    /// Sends what is owed and what there is, as far as receive buffers and the budget go.
    func serveGuestbound() {
        guard !isStarved, !events.awaitsDriver, let queue = guestboundQueue else { return }
        let byteCount = counters.value.bytesToGuest
        var budget = Self.bytesPerTurn
        var isIdle = true
        while budget > 0 && !isStarved {
            if let reply = resets.next {
                guard send(reply, queue) else { break }
                resets.removeFirst()
                budget -= Self.bytesPerPacket
            } else if let slot = table.firstReady {
                table.removeReady(slot)
                servedSlot = slot
                budget -= serve(slot, queue)
            } else {
                break
            }
            isIdle = false
        }
        if isIdle { return }
        queue.flush()
        queue.signal()
        if counters.value.bytesToGuest &- byteCount >= Self.bulk { noteBulk() }
    }

    /// Gives a connection its turn.
    ///
    /// - Returns: what that cost of the budget.
    private func serve(_ slot: Int, _ queue: Virtqueue) -> Int {
        var cost = Self.bytesPerPacket
        var hasRead = false
        while let operation = table.slots[slot].connection.nextOperation {
            if operation == .readWrite {
                if hasRead { break }
                let isStream = table.slots[slot].connection.type == .stream
                let result = isStream ? readHost(slot, queue) : readMessage(slot, queue)
                guard let moved = result else { break }
                hasRead = moved > 0
                cost += moved
            } else {
                if operation == .creditRequest, table.slots[slot].connection.mayHideEnd,
                    revealEnd(slot)
                {
                    continue
                }
                guard sendOwed(operation, slot, queue) else { break }
                if operation == .reset {
                    forgotten(slot)
                    return cost
                }
            }
        }
        refresh(slot)
        return cost
    }

    // MARK: Packets without payload

    private func sendOwed(_ operation: Operation, _ slot: Int, _ queue: Virtqueue) -> Bool {
        guard send(table.slots[slot].connection.header(operation, guest: guest), queue) else {
            return false
        }
        table.slots[slot].connection.sent(operation)
        table.slots[slot].traffic.packetsToGuest &+= 1
        if operation == .creditRequest {
            counters.value.creditStalls &+= 1
            table.slots[slot].traffic.creditStalls &+= 1
        }
        if operation == .shutdown && table.slots[slot].connection.phase == .closing {
            table.slots[slot].host.close(loop: loop)
            wait(slot, .closing)
        }
        return true
    }

    /// Tells the guest at once of its credit on a connection that owes it nothing else.
    ///
    /// Without a receive buffer, or when others come first, that is left to the turn.
    func sendCreditUpdate(_ slot: Int) {
        guard !isStarved, !events.awaitsDriver, resets.count == 0, let queue = guestboundQueue,
            table.slots[slot].connection.nextOperation == .creditUpdate,
            sendOwed(.creditUpdate, slot, queue)
        else { return }
        queue.flush()
        queue.signal()
    }

    private func send(_ header: VsockHeader, _ queue: Virtqueue) -> Bool {
        bufferPieces[0].removeAll()
        guard let buffer = takeReceiveBuffer(queue, payloadByteCount: 0) else { return false }
        let target = bufferPieces[0].slice(buffer.writablePieces)
        header.store(to: target)
        capture?.record(header, target)
        put(buffer, byteCount: 0, queue)
        return true
    }

    @inline(__always)
    func put(_ buffer: Buffer, byteCount: Int, _ queue: Virtqueue) {
        counters.value.packetsToGuest &+= 1
        let length = UInt32(truncatingIfNeeded: VsockHeader.byteCount &+ byteCount)
        queue.put(UsedBuffer(id: buffer.id, writtenLength: length))
    }

    // MARK: Receive buffers

    /// Takes a receive buffer with room for a header and some payload; gives back those without.
    ///
    /// When there is none, the driver is asked to notify.
    func takeReceiveBuffer(_ queue: Virtqueue, payloadByteCount: Int) -> Buffer? {
        var attempts = Self.takeAttempts
        var hasGivenBack = false
        while attempts > 0 {
            if let buffer = take(queue) {
                if isUsable(buffer, payloadByteCount: payloadByteCount) { return buffer }
                counters.value.malformedPackets &+= 1
                queue.put(UsedBuffer(id: buffer.id, writtenLength: 0))
                bufferPieces[0].removeAll()
                hasGivenBack = true
                continue
            }
            if queue.breakage != nil || !queue.requestNotifications() { break }
            queue.suppressNotifications()
            attempts -= 1
        }
        if attempts == 0 { _ = queue.requestNotifications() }
        if hasGivenBack {
            // Nothing else may follow that publishes them, and the queue could never stop.
            queue.flush()
            queue.signal()
        }
        counters.value.receiveBufferStalls &+= 1
        isStarved = true
        return nil
    }

    private func isUsable(_ buffer: Buffer, payloadByteCount: Int) -> Bool {
        buffer.readablePieceCount == 0
            && buffer.writableLength >= UInt64(VsockHeader.byteCount + payloadByteCount)
    }

    @inline(__always)
    private func take(_ queue: Virtqueue) -> Buffer? {
        let wasBroken = queue.breakage != nil
        do {
            return try queue.take(&bufferPieces[0])
        } catch {
            if !wasBroken { report(error, of: "rx") }
            return nil
        }
    }

    // MARK: Payload

    /// Reads a socket into receive buffers, as far as the guest's credit goes.
    ///
    /// - Returns: bytes; nil when there is no receive buffer.
    private func readHost(_ slot: Int, _ queue: Virtqueue) -> Int? {
        guard let (count, room) = offerBuffers(slot, queue) else { return nil }
        do {
            let (result, isDrained) = try table.slots[slot].host.receive(
                into: scattered[0].all, byteCount: room)
            switch result {
            case .bytes(let byteCount):
                fill(slot, queue, offeredCount: count, byteCount: byteCount)
                if isDrained {
                    table.slots[slot].connection.hostDrained()
                    noteRead(slot, byteCount: byteCount)
                }
                return byteCount
            case .wouldBlock:
                table.slots[slot].connection.hostEmpty()
                noteEmpty(slot)
            case .endOfFile:
                table.slots[slot].connection.hostShutDown(.send)
            }
        } catch {
            // ECONNRESET and its like: whatever the host had sent has been read.
            hostGone(slot)
            table.slots[slot].connection.hostShutDown(.both)
        }
        queue.handBack(count)
        return 0
    }

    /// Takes receive buffers and lists their payload parts, as far as credit, the ring and one
    /// system call go.
    private func offerBuffers(_ slot: Int, _ queue: Virtqueue) -> (count: Int, room: Int)? {
        let credit = table.slots[slot].connection.guestbound
        let window = min(credit.available, Self.bytesPerRead)
        let limit = min(credit.availablePackets, table.slots[slot].expectedBuffers)
        bufferPieces[0].removeAll()
        scattered[0].removeAll()
        guard let first = takeReceiveBuffer(queue, payloadByteCount: 1) else { return nil }
        var room = offer(first, at: 0, window: window)
        var count = 1
        while count < limit && room < window {
            guard let buffer = take(queue) else { break }
            let pieceCount = Int(buffer.writablePieceCount)
            guard isUsable(buffer, payloadByteCount: 1),
                scattered[0].count &+ pieceCount <= Self.piecesPerCall
            else {
                // In its place in the ring it is dealt with next time, as the first.
                queue.handBack(1)
                break
            }
            room &+= offer(buffer, at: count, window: window &- room)
            count &+= 1
        }
        return (count, room)
    }

    @inline(__always)
    private func offer(_ buffer: Buffer, at index: Int, window: Int) -> Int {
        offered[index] = buffer
        let room = min(payloadRoom(buffer), window)
        scattered[0].append(
            bufferPieces[0].slice(buffer.writablePieces), from: VsockHeader.byteCount,
            byteCount: room)
        return room
    }

    @inline(__always)
    func payloadRoom(_ buffer: Buffer) -> Int {
        Int(clamping: buffer.writableLength) &- VsockHeader.byteCount
    }

    /// Writes the headers of the buffers that were filled and hands back the others.
    private func fill(_ slot: Int, _ queue: Virtqueue, offeredCount: Int, byteCount: Int) {
        var header = table.slots[slot].connection.header(.readWrite, guest: guest)
        var left = byteCount
        var used = 0
        while left > 0, used < offeredCount, let buffer = offered[used] {
            let room = payloadRoom(buffer)
            let length = min(room, left)
            header.length = UInt32(truncatingIfNeeded: length)
            let target = bufferPieces[0].slice(buffer.writablePieces)
            header.store(to: target)
            if let capture { capture.record(header, target) }
            table.slots[slot].connection.sentPayload(length, fillsBuffer: length == room)
            left &-= length
            used &+= 1
        }
        queue.handBack(offeredCount &- used)
        var rest = byteCount
        for index in 0..<used {
            guard let buffer = offered[index] else { break }
            let length = min(payloadRoom(buffer), rest)
            put(buffer, byteCount: length, queue)
            rest &-= length
        }
        counters.value.bytesToGuest &+= UInt64(byteCount)
        table.slots[slot].traffic.packetsToGuest &+= UInt64(used)
        table.slots[slot].traffic.bytesToGuest &+= UInt64(byteCount)
        table.slots[slot].expectedBuffers = expectation(offered: offeredCount, used: used)
    }

    /// How many buffers to offer next time: more while all are used, fewer only when most are not,
    /// since an empty buffer costs less than another system call.
    private func expectation(offered: Int, used: Int) -> Int {
        if used == offered { return min(offered * 2, Self.buffersPerRead) }
        return used < offered / 8 ? offered / 2 : offered
    }
}
