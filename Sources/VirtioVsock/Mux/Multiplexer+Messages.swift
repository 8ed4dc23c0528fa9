// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage
import Virtio

// Messages of the host (SEQPACKET): each is taken whole from its socket and sent in as many packets
// as the guest's buffers and credit make of it, the last one marked.
extension Multiplexer {
    /// Sends the host's message at hand, or its next one.
    ///
    /// - Returns: bytes; nil when there is no receive buffer.
    func readMessage(_ slot: Int, _ queue: Virtqueue) -> Int? {
        do {
            if !table.slots[slot].connection.isMidMessage {
                guard try takeMessage(slot) else { return 0 }
            }
        } catch {
            hostGone(slot)
            table.slots[slot].connection.hostShutDown(.both)
            return 0
        }
        var sent = 0
        while table.slots[slot].connection.isMidMessage, sent < Self.bytesPerRead {
            guard table.slots[slot].connection.nextOperation == .readWrite else { break }
            guard let byteCount = sendMessagePart(slot, queue) else { return sent > 0 ? sent : nil }
            sent += max(1, byteCount)
        }
        return sent
    }

    /// Takes the next message off the socket; false when there is none.
    private func takeMessage(_ slot: Int) throws(Errno) -> Bool {
        switch try table.slots[slot].host.nextMessage() {
        case .wouldBlock:
            table.slots[slot].connection.hostEmpty()
            return false
        case .endOfFile:
            table.slots[slot].connection.hostShutDown(.send)
            return false
        case .message(let byteCount):
            // A message that does not fit into the guest's buffer could never be read there.
            guard byteCount <= Int(table.slots[slot].connection.guestbound.allocation) else {
                table.slots[slot].connection.reset()
                hostboundEnded(slot)
                return false
            }
            try table.slots[slot].host.receiveMessage(
                byteCount, into: &table.slots[slot].message)
            table.slots[slot].connection.isMidMessage = true
            return true
        }
    }

    private func sendMessagePart(_ slot: Int, _ queue: Virtqueue) -> Int? {
        bufferPieces[0].removeAll()
        guard let buffer = takeReceiveBuffer(queue, payloadByteCount: 1) else { return nil }
        let left = table.slots[slot].message.count
        let room = payloadRoom(buffer)
        let length = min(left, room, table.slots[slot].connection.guestbound.available)
        var header = table.slots[slot].connection.header(.readWrite, guest: guest)
        header.length = UInt32(truncatingIfNeeded: length)
        if length == left { header.flags = MessageFlags.endOfMessage }
        let target = bufferPieces[0].slice(buffer.writablePieces)
        header.store(to: target)
        table.slots[slot].message.moveFirst(length, to: target, at: VsockHeader.byteCount)
        capture?.record(header, target)
        table.slots[slot].traffic.packetsToGuest &+= 1
        table.slots[slot].traffic.bytesToGuest &+= UInt64(length)
        table.slots[slot].connection.sentPayload(length, fillsBuffer: length == room)
        if length == left { table.slots[slot].connection.isMidMessage = false }
        put(buffer, byteCount: length, queue)
        counters.value.bytesToGuest &+= UInt64(length)
        return length
    }
}
