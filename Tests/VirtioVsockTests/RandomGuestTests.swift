// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("A guest that sends anything at all")
struct RandomGuestTests {
    private func one<Value>(of values: [Value], _ random: inout SeededGenerator) -> Value {
        values[Int.random(in: values.indices, using: &random)]
    }

    /// Packets that are legal in parts, so that they reach far into the device.
    private func packet(_ random: inout SeededGenerator, _ ports: [UInt32]) -> Packet {
        var packet = Packet()
        if Int.random(in: 0..<40, using: &random) == 0 { packet.sourceCID = 9 }
        if Int.random(in: 0..<20, using: &random) == 0 {
            packet.destinationCID = one(of: [0, 1, 3, 5, 0xffff_ffff, 1 << 40], &random)
        }
        packet.sourcePort = UInt32.random(in: 1..<12, using: &random)
        packet.destinationPort = ports.randomElement(using: &random) ?? 5000
        packet.type = one(of: [1, 1, 1, 1, 2, 2, 0, 9], &random)
        packet.operation = one(of: [1, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7, 0, 8], &random)
        packet.flags = UInt32.random(in: 0..<8, using: &random)
        packet.bufferAllocation = one(of: [0, 1, 128, 4096, 65_536, 262_144, .max], &random)
        packet.forwardCount = UInt32.random(in: 0..<4, using: &random)
        if packet.operation == Packet.readWrite {
            packet.payload = testBytes(
                one(of: [0, 1, 64, 4000, 60_000], &random))
        }
        if Int.random(in: 0..<30, using: &random) == 0 {
            packet.claimedLength = UInt32.random(in: 0...UInt32.max, using: &random)
        }
        return packet
    }

    @Test(
        "gets every chain back, and hurts nobody else", arguments: RingFormat.allCases,
        0..<8 as Range<UInt64>)
    func anything(_ format: RingFormat, _ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let guest = try FakeGuest(.init(format: format, checksPackets: false))
        let service = try guest.service(at: 5000)
        let messages = try guest.service(at: 5001, kind: .sequencedPacket)
        var hosts: [HostEnd] = []
        var clients: [HostEnd] = []
        for _ in 0..<600 {
            var ports: [UInt32] = [5000, 5001, 7]
            ports += guest.takeReceived().suffix(4).map(\.sourcePort)
            let packet = packet(&random, ports)
            let bytes = packet.header + packet.payload
            let cut = Int.random(in: 0...bytes.count, using: &random)
            let segments = [
                guest.memory.segment(bytes.prefix(cut)), guest.memory.segment(bytes.dropFirst(cut)),
            ].filter { $0.byteCount > 0 }
            guest.offer(Chain(readable: segments))
            if let host = try service.accept() { hosts.append(host) }
            if let host = try messages.accept() { hosts.append(host) }
            switch Int.random(in: 0..<8, using: &random) {
            case 0: hosts.randomElement(using: &random)?.write(testBytes(5000))
            case 1: _ = hosts.randomElement(using: &random)?.read()
            case 2 where hosts.count > 4:
                hosts.remove(at: Int.random(in: 0..<hosts.count, using: &random)).close()
            case 3:
                let client = try guest.client()
                client.write("CONNECT \(UInt32.random(in: 1..<12, using: &random))\n")
                clients.append(client)
            case 4: guest.advance(by: .milliseconds(300))
            default: guest.turn()
            }
        }
        guest.settle()
        #expect(guest.chainsUnderWay == 0)
        hosts = []
        clients = []
        while try service.accept() != nil {}
        while try messages.accept() != nil {}
        for _ in 0..<10 { guest.advance(by: .seconds(10)) }
        // What the host has left stays for a guest that grants nothing, and for no other.
        #expect(guest.device.connections.allSatisfy { $0.guestCredit == 0 })
        let bases = guest.bases
        guest.stop()
        guest.device.reset()
        #expect(guest.device.connectionCount == 0)
        try guest.start(at: bases)
        // Whatever it has done, it may connect again.
        let again = try guest.connect(to: service, port: 5000, from: 40_000)
        again.stream.write(Array("hello".utf8))
        guest.settle()
        #expect(again.host.readText() == "hello")
    }
}
