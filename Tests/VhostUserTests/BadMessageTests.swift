// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Testing

@Suite("A message that is wrong")
struct BadMessageTests {
    /// Payload sizes that matter: none, those of some message, one off, and the largest.
    private static let sizes = [0, 1, 7, 8, 9, 12, 20, 32, 39, 40, 41, 72, 4096]

    private enum Moment: CaseIterable {
        case beforeOwner
        case running
    }

    private func frontEnd(_ backEnd: BackEnd, _ moment: Moment, _ model: Guest) throws -> FrontEnd {
        let frontEnd = try backEnd.connect()
        if moment == .running {
            let vmm = try KnownVMM.crosvm.make()
            try vmm.connect(frontEnd, ringCount: 3)
            try vmm.start(frontEnd, model.memory, model.rings, ringCount: 3)
        }
        return frontEnd
    }

    /// Sends a message and waits until it is settled.
    ///
    /// - Returns: whether the session goes on.
    private func settle(
        _ frontEnd: FrontEnd, _ message: FrontEndMessage, flags: UInt32
    ) throws -> Bool {
        do {
            try frontEnd.send(message, flags: flags)
            try frontEnd.send(.getFeatures)
            while true {
                guard let reply = try frontEnd.readReply(within: .seconds(10)) else {
                    Issue.record("no reply, and not closed: request \(message.request)")
                    return false
                }
                #expect(reply.flags == 0x5)
                if reply.request == 1 && message.request != 1 { return true }
                if message.request == 1 { return true }
            }
        } catch FrontEndError.closed {
            return false
        }
    }

    @Test(
        "is answered or ends the session, whatever its number, its size and its descriptors",
        arguments: 0...60 as ClosedRange<UInt32>)
    func matrix(_ request: UInt32) throws {
        let backEnd = try BackEnd()
        let signals = try (0..<9).map { _ in try Signal() }
        let model = try Guest(backEnd)
        model.frontEnd.disconnect()
        try backEnd.turn()
        for moment in Moment.allCases {
            var frontEnd = try frontEnd(backEnd, moment, model)
            for size in Self.sizes {
                for count in [0, 1, 2, 9] {
                    let message = FrontEndMessage(
                        request, payload: [UInt8](repeating: 0xff, count: size),
                        descriptors: signals.prefix(count).map(\.rawDescriptor))
                    for flags: UInt32 in [0x1, 0x9] {
                        if try settle(frontEnd, message, flags: flags) { continue }
                        frontEnd.disconnect()
                        try backEnd.turn()
                        frontEnd = try self.frontEnd(backEnd, moment, model)
                    }
                }
            }
            frontEnd.disconnect()
            try backEnd.turn()
        }
        // And the next one is served.
        let guest = try Guest(backEnd)
        try guest.start()
        #expect(try guest.echo([7]) == [[7]])
    }

    @Test(
        "names a ring that does not exist",
        arguments: [3, 0xff, 0x100, 0x10000, 0xffff_ffff] as [UInt32])
    func ringIndex(_ index: UInt32) throws {
        let guest = try Guest(try BackEnd())
        let index = Int(index)
        var messages = [
            FrontEndMessage.setRingSize(index, 16), .setRingBase(index, 0),
            .setRingEnable(index, true),
            .setRingAddresses(index, descriptors: 0, used: 0, available: 0),
        ]
        if index != 0x100 {
            // That bit says that there is no descriptor.
            messages += [
                .setRingKick(index, guest.rings[0].kick.rawDescriptor),
                .setRingCall(index, nil), .setRingError(index, nil),
            ]
        }
        for message in messages {
            #expect(
                try guest.frontEnd.acknowledgement(of: message) != 0, "request \(message.request)")
        }
        try guest.frontEnd.send(.getRingBase(index))
        #expect(try guest.frontEnd.isClosed())
    }

    @Test("sets bits of a ring descriptor that mean nothing", arguments: 9...63)
    func reservedBits(_ bit: Int) throws {
        let guest = try Guest(try BackEnd())
        for request: UInt32 in [12, 13, 14] {
            let payload = FrontEndMessage.bytes(UInt64(1) << UInt64(bit) | 0x100)
            #expect(
                try guest.frontEnd.acknowledgement(of: FrontEndMessage(request, payload: payload))
                    != 0)
        }
    }

    @Test(
        "has a ring size that is not legal",
        arguments: [0, 3, 6, 32769, 65536, 0xffff_ffff] as [UInt32])
    func ringSize(_ size: UInt32) throws {
        let guest = try Guest(try BackEnd())
        try guest.frontEnd.require(.setFeatures(1 << 32 | 1 << 30))
        #expect(try guest.frontEnd.acknowledgement(of: .setRingSize(0, size)) != 0)
    }

    @Test("has a packed ring's base outside the ring")
    func packedBase() throws {
        let guest = try Guest(try BackEnd())
        try guest.frontEnd.require(.setFeatures(1 << 34 | 1 << 32 | 1 << 30))
        try guest.frontEnd.require(.setRingSize(0, 5))
        #expect(try guest.frontEnd.acknowledgement(of: .setRingBase(0, 0x8005_8005)) != 0)
        #expect(try guest.frontEnd.acknowledgement(of: .setRingBase(0, 0x8004_8004)) == 0)
    }

    @Test("has ring addresses that are not aligned", arguments: [(8, 0, 0), (0, 1, 0), (0, 0, 2)])
    func alignment(_ offsets: (UInt64, UInt64, UInt64)) throws {
        let guest = try Guest(try BackEnd())
        try guest.frontEnd.require(.addMemoryRegion(guest.memory, 0))
        let base = guest.memory.regions[0].frontEndAddress
        let message = FrontEndMessage.setRingAddresses(
            0, descriptors: base + offsets.0, used: base + 0x2000 + offsets.2,
            available: base + 0x1000 + offsets.1)
        #expect(try guest.frontEnd.acknowledgement(of: message) != 0)
    }

    @Test("is a table that says it has more regions than it has room for")
    func tableCount() throws {
        let guest = try Guest(try BackEnd())
        for count: UInt32 in [2, 9, 32, 33, 0xffff_ffff] {
            var message = FrontEndMessage.setMemoryTable(guest.memory)
            message.payload.replaceSubrange(0..<4, with: FrontEndMessage.bytes(count))
            #expect(try guest.frontEnd.acknowledgement(of: message) != 0)
        }
    }

    @Test("loses nobody's descriptors")
    func descriptorsAreClosed() async {
        await #expect(processExitsWith: .success) {
            let backEnd = try BackEnd()
            let signals = try (0..<32).map { _ in try Signal() }
            func connect() throws -> FrontEnd {
                let frontEnd = try backEnd.connect()
                try KnownVMM.qemuTenSCSI.make().connect(frontEnd, ringCount: 3)
                return frontEnd
            }
            func sendAll() throws {
                var frontEnd = try connect()
                for request: UInt32 in 0...60 {
                    for count in [0, 1, 2, 32] {
                        for size in [0, 8] {
                            let message = FrontEndMessage(
                                request, payload: [UInt8](repeating: 0, count: size),
                                descriptors: signals.prefix(count).map(\.rawDescriptor))
                            do {
                                try frontEnd.send(message, flags: 0x9)
                                _ = try frontEnd.readReply(within: .seconds(10))
                            } catch FrontEndError.closed {
                                frontEnd.disconnect()
                                try backEnd.turn()
                                frontEnd = try connect()
                            }
                        }
                    }
                }
                frontEnd.disconnect()
                try backEnd.turn()
            }
            try sendAll()
            let before = openDescriptorCount()
            try sendAll()
            precondition(openDescriptorCount() == before)
        }
    }

    @Test("replaces the descriptors of a ring, whose predecessors are closed")
    func descriptorsAreReplaced() async {
        await #expect(processExitsWith: .success) {
            let guest = try Guest(try BackEnd())
            let signals = try (0..<3).map { _ in try Signal() }
            try guest.start()
            let before = openDescriptorCount()
            for _ in 0..<3000 {
                try guest.frontEnd.require(.setRingKick(0, signals[0].rawDescriptor))
                try guest.frontEnd.require(.setRingCall(0, signals[1].rawDescriptor))
                try guest.frontEnd.require(.setRingError(0, signals[2].rawDescriptor))
            }
            precondition(openDescriptorCount() == before)
        }
    }
}
