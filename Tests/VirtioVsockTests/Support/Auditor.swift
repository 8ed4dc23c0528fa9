// SPDX-License-Identifier: Apache-2.0

import Testing

/// Watches every packet that passes, and holds the device to what must be true of all of them.
struct Auditor {
    private struct Address: Hashable {
        var peer: UInt64
        var peerPort: UInt32
        var guestPort: UInt32
    }

    private struct Account {
        var isOver = false
        var type: UInt16 = 1
        /// Bytes sent by the guest, and by the device.
        var guestSent: UInt32 = 0
        var deviceSent: UInt32 = 0
        /// What the device said that it consumed, and the guest.
        var deviceForwarded: UInt32 = 0
        var guestForwarded: UInt32 = 0
        var guestAllocation: UInt32 = 0
        /// How far beyond `guestForwarded` the device was ever allowed to go.
        var credit: UInt32 = 0
        /// Ends of the small packets that the guest has not consumed.
        var smallPackets: [UInt32] = []
        var saidShutdown: UInt32 = 0
        var lastFromGuest: UInt16 = 0
    }

    private var accounts: [Address: Account] = [:]
    /// Addresses that the guest wrote to beside the host's.
    private var foreignAddresses: Set<UInt64> = []
    private let guestCID: UInt64
    /// Whom the guest can reach: the host, and siblings.
    private let peers: Set<UInt64>

    init(guestCID: UInt64, siblings: Set<UInt64> = []) {
        self.guestCID = guestCID
        peers = siblings.union([2])
    }

    /// The guest sends a packet.
    mutating func guestSent(_ packet: Packet) {
        if !peers.contains(packet.destinationCID) {
            foreignAddresses.insert(packet.destinationCID)
            return
        }
        let address = Address(
            peer: packet.destinationCID, peerPort: packet.destinationPort,
            guestPort: packet.sourcePort)
        var account = accounts[address] ?? Account()
        if packet.operation == Packet.request {
            account = Account()
            account.type = packet.type
        }
        account.lastFromGuest = packet.operation
        if packet.operation == Packet.readWrite {
            account.guestSent &+= UInt32(packet.payload.count)
        }
        note(packet, &account)
        if packet.operation == Packet.reset { account.isOver = true }
        accounts[address] = account
    }

    private func note(_ packet: Packet, _ account: inout Account) {
        let progress = packet.forwardCount &- account.guestForwarded
        account.guestForwarded = packet.forwardCount
        account.guestAllocation = packet.bufferAllocation
        account.credit = max(
            account.credit > progress ? account.credit - progress : 0, packet.bufferAllocation)
        account.smallPackets.removeAll { Int32(bitPattern: packet.forwardCount &- $0) >= 0 }
    }

    /// The guest gets a packet.
    ///
    /// - Parameters:
    ///   - packet: as it stands in the buffer.
    ///   - room: bytes of payload that fit into the buffer.
    mutating func guestReceived(_ packet: Packet, room: Int) {
        #expect((1...7).contains(packet.operation), "an operation of the specification")
        #expect(packet.destinationCID == guestCID, "addressed to the guest")
        #expect(packet.claimedLength == UInt32(packet.payload.count), "used_len is 44 + len")
        if packet.operation != Packet.readWrite { #expect(packet.payload.isEmpty) }
        if !peers.contains(packet.sourceCID) {
            #expect(packet.operation == Packet.reset && foreignAddresses.contains(packet.sourceCID))
            return
        }
        let address = Address(
            peer: packet.sourceCID, peerPort: packet.sourcePort, guestPort: packet.destinationPort)
        var account = accounts[address] ?? Account()
        if packet.operation == Packet.request {
            #expect(account.isOver || accounts[address] == nil, "ports are not used too early")
            account = Account()
            account.type = packet.type
        }
        check(packet, &account, room: room)
        accounts[address] = account
    }

    private func check(_ packet: Packet, _ account: inout Account, room: Int) {
        if packet.operation == Packet.reset {
            #expect(account.lastFromGuest != Packet.reset, "RST is not answered with RST")
            // One of another type is for a packet of that type, not for the connection.
            if packet.type == account.type { account.isOver = true }
            return
        }
        #expect(!account.isOver, "nothing comes after RST")
        #expect(account.saidShutdown != 3, "nothing comes after SHUTDOWN(3)")
        #expect(packet.type == account.type)
        #expect(packet.bufferAllocation > 0)
        let progress = packet.forwardCount &- account.deviceForwarded
        #expect(
            progress <= account.guestSent &- account.deviceForwarded,
            "fwd_cnt grows, and no further than what was sent")
        account.deviceForwarded = packet.forwardCount
        if packet.operation == Packet.shutdown {
            #expect(packet.flags & account.saidShutdown == account.saidShutdown)
            account.saidShutdown |= packet.flags
        }
        if packet.operation == Packet.readWrite { checkPayload(packet, &account, room: room) }
    }

    private func checkPayload(_ packet: Packet, _ account: inout Account, room: Int) {
        let length = UInt32(packet.payload.count)
        #expect(length > 0 || packet.type == 2, "no packet is empty")
        #expect(account.saidShutdown & 2 == 0, "no payload comes after SHUTDOWN(SEND)")
        account.deviceSent &+= length
        #expect(
            account.deviceSent &- account.guestForwarded <= account.credit,
            "credit is not exceeded")
        if length >= 1024 || Int(length) < room { account.smallPackets.append(account.deviceSent) }
        #expect(
            account.smallPackets.count <= max(1, Int(account.credit / 1024)),
            "no more packets wait than the guest counts")
    }
}
