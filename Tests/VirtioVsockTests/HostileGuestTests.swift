// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing
import Virtio

@testable import VirtioVsock

@Suite("A guest that keeps to no rule")
struct HostileGuestTests {
    let guest: FakeGuest
    let service: HostService

    init() throws {
        guest = try FakeGuest()
        service = try guest.service(at: 5000)
    }

    private func connect() throws -> (stream: GuestStream, host: HostEnd) {
        try guest.connect(to: service, port: 5000, from: 1025)
    }

    /// Sends a packet of a connection, changed.
    private func send(
        _ stream: GuestStream, _ operation: UInt16, _ change: (inout Packet) -> Void = { _ in }
    ) {
        var packet = stream.packet(operation)
        change(&packet)
        guest.offer(
            Chain(readable: [guest.memory.segment(packet.header + packet.payload)]), packet)
        guest.settle()
    }

    /// Expects that the connection is over and that another one works.
    private func expectReset(_ stream: GuestStream, _ host: HostEnd) throws {
        #expect(stream.wasReset)
        #expect(host.read() == .endOfFile)
        #expect(guest.device.connectionCount == 0)
        #expect(guest.chainsUnderWay == 0)
        let next = try guest.connect(to: service, port: 5000, from: 2000)
        next.stream.write(Array("hello".utf8))
        guest.settle()
        #expect(next.host.readText() == "hello")
    }

    @Test("loses its connection when it sends more than it was granted")
    func overCredit() throws {
        let (stream, host) = try connect()
        for _ in 0..<200 where !stream.wasReset {
            send(stream, Packet.readWrite) { $0.payload = testBytes(60_000) }
        }
        #expect(stream.wasReset)
        #expect(guest.device.connectionCount == 0)
        var count = 0
        while case .bytes(let bytes) = host.read() {
            count += bytes.count
            guest.settle()
        }
        #expect(count % 60_000 == 0, "what it was granted is delivered")
    }

    @Test("loses its connection when it has consumed what was never sent")
    func futureCount() throws {
        let (stream, host) = try connect()
        send(stream, Packet.creditUpdate) { $0.forwardCount = 1 }
        try expectReset(stream, host)
    }

    @Test(
        "loses its connection when a payload ends before its length", arguments: [6, 0xffff_ffff])
    func shortPayload(_ length: UInt32) throws {
        let (stream, host) = try connect()
        send(stream, Packet.readWrite) {
            $0.payload = Array("hello".utf8)
            $0.claimedLength = length
        }
        try expectReset(stream, host)
    }

    @Test("loses its connection when it asks for it again")
    func secondRequest() throws {
        let (stream, host) = try connect()
        send(stream, Packet.request)
        try expectReset(stream, host)
    }

    @Test(
        "loses its connection when it accepts what it was not asked", arguments: [UInt16(2), 0, 9])
    func strangeOperation(_ operation: UInt16) throws {
        let (stream, host) = try connect()
        send(stream, operation)
        try expectReset(stream, host)
    }

    @Test("loses its connection when it sends after it has said that it would not")
    func sendsAfterShutdown() throws {
        let (stream, host) = try connect()
        stream.shutDown(2)
        send(stream, Packet.readWrite) { $0.payload = [1] }
        #expect(stream.wasReset)
        #expect(host.read() == .endOfFile)
    }

    @Test("gets RST for another type, and keeps the connection of the same ports")
    func otherType() throws {
        let (stream, host) = try connect()
        send(stream, Packet.readWrite) {
            $0.type = 2
            $0.payload = Array("no".utf8)
        }
        // To Linux, this RST is for the socket of that type alone.
        #expect(guest.device.connectionCount == 1)
        #expect(host.read() == .wouldBlock)
    }

    @Test("may send packets without payload: they are nothing")
    func emptyPayload() throws {
        let (stream, host) = try connect()
        for _ in 0..<10 { send(stream, Packet.readWrite) }
        #expect(host.read() == .wouldBlock)
        stream.write(Array("hello".utf8))
        send(stream, Packet.readWrite)
        #expect(host.readText() == "hello")
        #expect(!stream.wasReset)
    }

    @Test("gets every chain back, whatever is in it")
    func badChains() throws {
        let memory = guest.memory
        for _ in 0..<300 {
            guest.offer(Chain(readable: [memory.segment([1, 2, 3])]))
            guest.offer(Chain(writable: [memory.segment(byteCount: 100)]))
            guest.offer(
                Chain(
                    readable: [memory.segment([UInt8](repeating: 9, count: 43))],
                    writable: [memory.segment(byteCount: 100)]))
            guest.settle()
        }
        #expect(guest.chainsUnderWay == 0)
        #expect(guest.device.statistics.malformedPackets == 900)
        let (stream, host) = try connect()
        stream.write(Array("hello".utf8))
        guest.settle()
        #expect(host.readText() == "hello")
    }

    @Test("loses its connection for a packet that the device could write to")
    func writablePart() throws {
        let (stream, host) = try connect()
        var packet = stream.packet(Packet.readWrite)
        packet.payload = Array("hello".utf8)
        guest.offer(
            Chain(
                readable: [guest.memory.segment(packet.header + packet.payload)],
                writable: [guest.memory.segment(byteCount: 10)]))
        guest.settle()
        try expectReset(stream, host)
    }

    @Test("loses the connection of a packet that does not lie in its memory, and nothing else")
    func outsideMemory() throws {
        let (stream, host) = try connect()
        var packet = stream.packet(Packet.readWrite)
        packet.payload = Array("hello".utf8)
        let header = guest.memory.segment(packet.header)
        let nowhere = RawDescriptor(address: 0xffff_ffff_0000, length: 44)
        _ = guest.transmitRing.addRaw([nowhere])
        _ = guest.transmitRing.addRaw([
            RawDescriptor(address: header.address, length: 44, flags: RawDescriptor.next), nowhere,
        ])
        if guest.transmitRing.publish() { guest.device.driverNotified(queueAt: 1) }
        guest.settle()
        try expectReset(stream, host)
    }

    @Test("that asks for a million connections and takes no answer costs bounded memory")
    func floodWithoutReceiveBuffers() throws {
        let guest = try FakeGuest(
            .init(ringSize: 64, receiveBufferCount: 0, adjust: { $0.connectionLimit = 50 }))
        for port in UInt32(0)..<2000 {
            var packet = Packet()
            packet.sourcePort = port
            packet.destinationPort = 7
            packet.operation = Packet.request
            packet.bufferAllocation = 65_536
            guest.send(packet)
            if port % 32 == 31 { guest.settle() }
        }
        guest.settle()
        #expect(guest.device.connectionCount <= 50)
        #expect(guest.chainsUnderWay == 64, "packets are not taken that could not be answered")
        // As soon as there are buffers, every answer that is owed comes.
        for _ in 0..<16 { guest.postBuffer([64]) }
        guest.settle()
        #expect(guest.chainsUnderWay == 0)
        let resets = guest.takeReceived()
        #expect(resets.count == 50 + 64 + 64)
        #expect(resets.allSatisfy { $0.operation == Packet.reset })
    }
}
