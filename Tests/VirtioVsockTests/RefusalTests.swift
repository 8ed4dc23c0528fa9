// SPDX-License-Identifier: Apache-2.0

import Driver
import Glibc
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("A packet that leads nowhere")
struct RefusalTests {
    let guest: FakeGuest

    init() throws {
        guest = try FakeGuest()
    }

    private func packet(_ operation: UInt16, type: UInt16 = 1, to port: UInt32 = 5000) -> Packet {
        var packet = Packet()
        packet.sourcePort = 1025
        packet.destinationPort = port
        packet.operation = operation
        packet.type = type
        packet.bufferAllocation = 65_536
        return packet
    }

    /// Sends a packet and takes the answers.
    private func answers(to packet: Packet) -> [Packet] {
        guest.send(packet)
        guest.settle()
        return guest.takeReceived()
    }

    private func expectReset(_ packet: Packet) throws {
        let answers = answers(to: packet)
        #expect(answers.count == 1)
        let reset = try #require(answers.first)
        #expect(reset.operation == Packet.reset)
        #expect(reset.type == packet.type, "a guest looks at the type")
        #expect(reset.sourceCID == packet.destinationCID, "a guest looks at whom it had asked")
        #expect(reset.sourcePort == packet.destinationPort)
        #expect(reset.destinationPort == packet.sourcePort)
    }

    @Test("gets RST when nobody listens at the port")
    func nobody() throws {
        try expectReset(packet(Packet.request))
        #expect(guest.device.statistics.failedConnects == 1)
    }

    @Test("gets RST when something else than a socket has the name")
    func notASocket() throws {
        // SAFETY: the path is passed as a C string for the length of the call.
        let made = unsafe mkdir(guest.path + "_5000", 0o700)
        #expect(made == 0)
        try expectReset(packet(Packet.request))
        // SAFETY: as above.
        _ = unsafe rmdir(guest.path + "_5000")
    }

    /// In a process of its own, which may do less after a while: root may open everything.
    @Test("gets RST when the device may not open the listener, and leads there once it may")
    func permissionDenied() async {
        await #expect(processExitsWith: .success) {
            // The tests' own folder may be closed to the user that this process becomes.
            // SAFETY: the name and the value are passed as C strings for the length of the call.
            try #require(unsafe setenv("TMPDIR", "/tmp", 1) == 0)
            let guest = try FakeGuest()
            let service = try guest.service(at: 5000)
            let user = geteuid()
            // SAFETY: the paths are passed as C strings for the length of the calls.
            try #require(unsafe chmod(guest.directory, 0o755) == 0)
            try #require(unsafe chmod(guest.path + "_5000", 0) == 0)
            if user == 0 { try #require(seteuid(65_534) == 0) }
            let first = GuestStream(guest, peerPort: 5000, guestPort: 1025, allocation: 65_536)
            first.request()
            guest.settle()
            try #require(first.wasReset)
            try #require(guest.device.statistics.failedConnects == 1)
            try #require(try service.accept() == nil)
            if user == 0 { try #require(seteuid(0) == 0) }
            // SAFETY: as above.
            try #require(unsafe chmod(guest.path + "_5000", 0o777) == 0)
            if user == 0 { try #require(seteuid(65_534) == 0) }
            _ = try guest.connect(to: service, port: 5000, from: 1026)
            if user == 0 { try #require(seteuid(0) == 0) }
        }
    }

    @Test("gets RST when the listener is of another kind")
    func otherKind() throws {
        let service = try HostService(at: guest.path + "_5000", kind: .sequencedPacket)
        try expectReset(packet(Packet.request))
        withExtendedLifetime(service) {}
    }

    @Test("gets RST for messages when the driver has not negotiated them")
    func messages() throws {
        let guest = try FakeGuest(.init(negotiatesMessages: false))
        let service = try guest.service(at: 5000, kind: .sequencedPacket)
        guest.send(packet(Packet.request, type: 2))
        guest.settle()
        let answers = guest.takeReceived()
        #expect(answers.map(\.operation) == [Packet.reset])
        #expect(answers.map(\.type) == [2])
        withExtendedLifetime(service) {}
    }

    @Test("gets RST for a type that is not served", arguments: [UInt16(0), 3, 65_535])
    func types(_ type: UInt16) throws {
        try expectReset(packet(Packet.request, type: type))
    }

    @Test(
        "gets RST from whoever was asked",
        arguments: [UInt64(0), 1, 5, 0xffff_ffff, 0x1_0000_0002, .max])
    func otherContexts(_ identifier: UInt64) throws {
        var request = packet(Packet.request)
        request.destinationCID = identifier
        try expectReset(request)
    }

    @Test(
        "gets one RST when there is no such connection",
        arguments: [UInt16(0), 2, 4, 5, 6, 7, 8, 65_535])
    func unknown(_ operation: UInt16) throws {
        try expectReset(packet(operation))
    }

    @Test("gets no answer when it is RST itself")
    func reset() throws {
        #expect(answers(to: packet(Packet.reset)).isEmpty)
        #expect(answers(to: packet(Packet.reset, type: 9)).isEmpty)
    }

    @Test("is dropped and counted when it does not come from the guest", arguments: [UInt64(2), 4])
    func foreign(_ source: UInt64) throws {
        var request = packet(Packet.request)
        request.sourceCID = source
        #expect(answers(to: request).isEmpty)
        #expect(guest.device.statistics.foreignPackets == 1)
        #expect(guest.chainsUnderWay == 0)
    }

    @Test("gets RST when the listener's backlog stays full, and others are served meanwhile")
    func fullBacklog() throws {
        let full = try guest.service(at: 5000, backlog: 0)
        let other = try guest.service(at: 5001)
        let first = try guest.connect(to: full, port: 5000, from: 1)
        for port in UInt32(2)..<4 {
            GuestStream(guest, peerPort: 5000, guestPort: port, allocation: 65_536).request()
        }
        guest.settle()
        let waiting = guest.streams.filter { $0.state == .requested }
        #expect(waiting.count >= 1)
        let (stream, host) = try guest.connect(to: other, port: 5001, from: 9)
        stream.write(Array("hello".utf8))
        guest.settle()
        #expect(host.readText() == "hello")
        // Room is found as soon as there is some.
        _ = try full.accept()
        guest.advance(by: .milliseconds(6))
        #expect(waiting.first?.state == .established)
        for _ in 0..<25 { guest.advance(by: .milliseconds(100)) }
        #expect(waiting.allSatisfy { $0.state != .requested })
        withExtendedLifetime(first) {}
    }

    @Test("gets RST at the limit of connections, and not below it again")
    func limit() throws {
        let guest = try FakeGuest(.init(adjust: { $0.connectionLimit = 3 }))
        let service = try guest.service(at: 5000)
        var ends: [(stream: GuestStream, host: HostEnd)] = []
        for port in UInt32(1)...3 {
            ends.append(try guest.connect(to: service, port: 5000, from: port))
        }
        let fourth = GuestStream(guest, peerPort: 5000, guestPort: 4, allocation: 65_536)
        fourth.request()
        guest.settle()
        #expect(fourth.wasReset)
        ends[1].stream.close()
        guest.settle()
        _ = try guest.connect(to: service, port: 5000, from: 5)
    }
}
