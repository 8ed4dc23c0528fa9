// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("A client that may wait for the guest")
struct AbsentGuestTests {
    let guest: FakeGuest

    init() throws {
        guest = try FakeGuest(.init(adjust: { $0.waitForGuest = .seconds(10) }))
    }

    /// The guest refuses what it was asked.
    private func refuse(_ request: Packet) {
        var reset = Packet()
        reset.sourcePort = request.destinationPort
        reset.destinationPort = request.sourcePort
        reset.operation = Packet.reset
        guest.send(reset)
        guest.settle()
    }

    private func accept(_ request: Packet, _ client: HostEnd) {
        let stream = GuestStream(
            guest, peerPort: request.sourcePort, guestPort: request.destinationPort,
            allocation: 65_536)
        stream.respond(to: request)
        guest.settle()
        #expect(client.readText() == "OK \(request.sourcePort)\n")
        #expect(stream.bytesRead == Array("hello".utf8))
    }

    @Test("is connected as soon as the driver is there")
    func driver() throws {
        guest.stop()
        guest.device.reset()
        let client = try guest.client()
        client.write("CONNECT 22\nhello")
        guest.settle()
        guest.advance(by: .seconds(3))
        #expect(client.read() == .wouldBlock)
        guest.forgetAccounts()
        try guest.start(at: guest.bases)
        guest.advance(by: .milliseconds(100))
        accept(try #require(guest.takeReceived().first), client)
    }

    @Test("is connected as soon as the guest listens")
    func listener() throws {
        let client = try guest.client()
        client.write("CONNECT 22\nhello")
        guest.settle()
        for _ in 0..<5 {
            refuse(try #require(guest.takeReceived().first))
            #expect(client.read() == .wouldBlock)
            #expect(guest.takeReceived().isEmpty, "it is not asked again at once")
            guest.advance(by: .milliseconds(100))
        }
        accept(try #require(guest.takeReceived().first), client)
    }

    @Test("gives up when its time is over")
    func timeout() throws {
        let client = try guest.client()
        client.write("CONNECT 22\n")
        guest.settle()
        var tries = 0
        while let request = guest.takeReceived().first {
            refuse(request)
            tries += 1
            try #require(tries < 1000)
            guest.advance(by: .milliseconds(100))
        }
        #expect((99...101).contains(tries))
        #expect(client.read() == .endOfFile)
        #expect(guest.device.connectionCount == 0)
    }

    @Test("is forgotten when it leaves")
    func leaves() throws {
        let client = try guest.client()
        client.write("CONNECT 22\n")
        guest.settle()
        refuse(try #require(guest.takeReceived().first))
        client.close()
        guest.settle()
        guest.advance(by: .seconds(1))
        #expect(guest.takeReceived().isEmpty)
        #expect(guest.device.connectionCount == 0)
    }
}
