// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import LinuxIO
import Testing

@Suite("A connection")
struct ConnectionTests {
    /// Header and payload of VHOST_USER_GET_FEATURES, version 1.
    private let getFeatures: [UInt8] = [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]

    @Test("takes a message byte by byte, with descriptors at the first byte")
    func byteByByte() throws {
        let backEnd = try BackEnd()
        let frontEnd = try backEnd.connect()
        let memory = try TestMemory(byteCount: 1 << 20)
        for message in [
            FrontEndMessage.setOwner, .setFeatures(1 << 32), .setMemoryTable(memory),
            .setRingKick(0, try Signal().rawDescriptor), .setRingSize(0, 16),
        ] {
            // The signal has gone already for all but the first; its number is what counts.
            let signal = try Signal()
            let descriptors = message.descriptors.map { _ in signal.rawDescriptor }
            let isMemory = message.request == MessageType.setMemoryTable
            for (position, byte) in message.bytes(flags: 1).enumerated() {
                let first = isMemory ? message.descriptors : descriptors
                try frontEnd.sendRaw([byte], descriptors: position == 0 ? first : [])
                try backEnd.turn()
            }
        }
        #expect(try frontEnd.ask(.getFeatures).payload.count == 8)
    }

    @Test("answers messages that come in one piece in their order")
    func coalesced() throws {
        let backEnd = try BackEnd()
        let frontEnd = try backEnd.connect()
        let getProtocolFeatures: [UInt8] = [15, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
        let setOwner: [UInt8] = [3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
        try frontEnd.sendRaw(getFeatures + setOwner + getProtocolFeatures + getFeatures)
        #expect(try frontEnd.readReply(to: 1).payload.count == 8)
        #expect(try frontEnd.readReply(to: 15).payload.count == 8)
        #expect(try frontEnd.readReply(to: 1).payload.count == 8)
        #expect(try frontEnd.readReply(within: .zero) == nil)
    }

    @Test("gives each of two messages in one piece its own descriptors")
    func coalescedDescriptors() throws {
        let backEnd = try BackEnd()
        let frontEnd = try backEnd.connect()
        let first = try Signal()
        let second = try Signal()
        try frontEnd.sendRaw(getFeatures)
        try frontEnd.send(.setRingCall(0, first.rawDescriptor))
        try frontEnd.send(.setRingCall(1, second.rawDescriptor))
        try frontEnd.sendRaw(getFeatures)
        #expect(try frontEnd.readReply(to: 1).payload.count == 8)
        #expect(try frontEnd.readReply(to: 1).payload.count == 8)
    }

    @Test("is closed when descriptors come in the middle of a message", arguments: [1, 11, 12, 19])
    func strayDescriptors(_ position: Int) throws {
        let backEnd = try BackEnd()
        let frontEnd = try backEnd.connect()
        let signal = try Signal()
        let bytes = FrontEndMessage.setRingCall(0, nil).bytes(flags: 1)
        try frontEnd.sendRaw(Array(bytes[..<position]))
        try backEnd.turn()
        try frontEnd.sendRaw(Array(bytes[position...]), descriptors: [signal.rawDescriptor])
        #expect(try frontEnd.isClosed())
    }

    @Test(
        "is closed at header flags that are not of version 1",
        arguments: [0x0, 0x2, 0x3, 0x4, 0x5, 0xd, 0x11, 0x21, 0x8000_0001, 0xffff_ffff])
    func illegalFlags(_ flags: UInt32) throws {
        let backEnd = try BackEnd()
        let frontEnd = try backEnd.connect()
        try frontEnd.send(.getFeatures, flags: flags)
        #expect(try frontEnd.isClosed())
        #expect(backEnd.log.lines(saying: "version 1").count == 1)
    }

    @Test(
        "is closed at a payload that no message has", arguments: [4097, 1 << 31, 0xffff_ffff])
    func oversize(_ size: UInt32) throws {
        let frontEnd = try BackEnd().connect()
        try frontEnd.sendRaw([1, 0, 0, 0, 1, 0, 0, 0] + FrontEndMessage.bytes(size))
        #expect(try frontEnd.isClosed())
    }

    @Test("reads on past the largest payload that it takes")
    func largestPayload() throws {
        let backEnd = try BackEnd()
        let frontEnd = try backEnd.connect()
        try KnownVMM.qemuTenSCSI.make().connect(frontEnd, ringCount: 3)
        let message = FrontEndMessage(1, payload: [UInt8](repeating: 0, count: 4096))
        // GET_FEATURES has no payload: without a reply that could say so, this ends the session.
        try frontEnd.send(message)
        #expect(try frontEnd.isClosed())
    }

    @Test(
        "tells a front-end that waits what it thinks of a message, and goes on",
        arguments: [0, 4096])
    func refusal(_ size: Int) throws {
        let guest = try Guest(try BackEnd())
        let message = FrontEndMessage(
            MessageType.setRingAddresses, payload: [UInt8](repeating: 0, count: size))
        #expect(try guest.frontEnd.acknowledgement(of: message) != 0)
        try guest.start()
        #expect(try guest.echo([1]) == [[1]])
    }

    @Test("waits with its replies for a front-end that does not read them")
    func backPressure() throws {
        let backEnd = try BackEnd()
        let frontEnd = try backEnd.connect()
        var sent = 0
        // Until both directions are full.
        let loop = backEnd.loop
        var turns = 0
        struct Full: Error {}
        frontEnd.pump = {
            turns += 1
            if turns > 20 { throw Full() }
            try loop.turn(waitingAtMost: .zero)
        }
        do {
            while true {
                try frontEnd.sendRaw(getFeatures)
                sent += 1
                turns = 0
            }
        } catch is Full {}
        frontEnd.pump = { try loop.turn(waitingAtMost: .milliseconds(1)) }
        // The message that did not fit may have been cut.
        for _ in 0..<sent { _ = try frontEnd.readReply(to: 1) }
        #expect(sent > 100)
    }

    @Test("answers every request that has a body with its number, flags 5, and its size")
    func replyForms() throws {
        let guest = try Guest(try BackEnd())
        let expected: [(FrontEndMessage, Int)] = [
            (.getFeatures, 8), (.getProtocolFeatures, 8), (.getQueueCount, 8),
            (.getMemorySlotCount, 8), (.getRingBase(1), 8),
            (.getConfiguration(offset: 0, count: 8), 20),
            (.getConfiguration(offset: 0, count: 256), 268),
        ]
        for (message, size) in expected {
            for flags: UInt32 in [0x1, 0x9] {
                // Asking for an acknowledgement changes nothing.
                let reply = try guest.frontEnd.ask(message, flags: flags)
                #expect(reply.flags == 5 && reply.payload.count == size)
                #expect(try guest.frontEnd.readReply(within: .zero) == nil)
            }
        }
    }

    @Test("acknowledges nothing unless that was negotiated")
    func acknowledgementsOff() throws {
        let backEnd = try BackEnd()
        let frontEnd = try backEnd.connect()
        for message in [
            FrontEndMessage.setOwner, .setFeatures(1 << 32 | 1 << 30), .setProtocolFeatures(1),
            .setRingSize(0, 16), .setRingEnable(0, true), .resetOwner,
        ] {
            try frontEnd.send(message, flags: 0x9)
        }
        let reply = try frontEnd.ask(.getFeatures, flags: 0x9)
        #expect(reply.request == 1)
        #expect(try frontEnd.readReply(within: .zero) == nil)
    }

    @Test("acknowledges everything without a body once that was negotiated")
    func acknowledgementsOn() throws {
        let backEnd = try BackEnd()
        let frontEnd = try backEnd.connect()
        let memory = try TestMemory(byteCount: 1 << 20)
        let signal = try Signal()
        let channel = try Signal()
        #expect(
            try frontEnd.acknowledgement(
                of: .setProtocolFeatures(1 << 0 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 13 | 1 << 15))
                == 0)
        for message in [
            FrontEndMessage.setOwner, .setFeatures(1 << 32 | 1 << 30), .setMemoryTable(memory),
            .setRingSize(0, 16), .setRingBase(0, 3),
            .setRingKick(0, signal.rawDescriptor), .setRingCall(0, signal.rawDescriptor),
            .setRingError(0, signal.rawDescriptor), .setRingCall(0, nil), .setRingError(0, nil),
            .setRingEnable(0, true), .setRingEnable(0, false),
            .setBackEndChannel(channel.rawDescriptor), .removeMemoryRegion(memory.regions[0]),
            .addMemoryRegion(memory, 0), .resetDevice, .resetOwner,
        ] {
            #expect(try frontEnd.acknowledgement(of: message) == 0, "request \(message.request)")
        }
        #expect(try frontEnd.readReply(within: .zero) == nil)
    }
}
