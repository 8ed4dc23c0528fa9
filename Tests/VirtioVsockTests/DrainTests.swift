// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("A vsock device that drains")
struct DrainTests {
    private func request(_ guest: FakeGuest, from port: UInt32) -> GuestStream {
        let stream = GuestStream(guest, peerPort: 5000, guestPort: port, allocation: 65_536)
        stream.request()
        guest.settle()
        return stream
    }

    @Test("goes on with the connections that there are, in both directions")
    func existing() throws {
        let guest = try FakeGuest()
        let service = try guest.service(at: 5000)
        let ends = [
            try guest.connect(to: service, port: 5000, from: 1025), try guest.accept(at: 22),
        ]
        guest.device.isDraining = true
        for (stream, host) in ends {
            stream.write(testBytes(50_000))
            host.write(testBytes(50_000, seed: 2))
            guest.settle()
            guard case .bytes(let bytes) = host.read() else {
                Issue.record("nothing has come")
                continue
            }
            expectSame(bytes, testBytes(50_000))
            expectSame(stream.bytesRead, testBytes(50_000, seed: 2))
            stream.close()
            guest.settle()
            #expect(stream.wasReset)
            #expect(host.read() == .endOfFile)
        }
        #expect(guest.device.connectionCount == 0)
    }

    @Test("refuses what the guest asks for, until it has connections made again")
    func guestAsks() throws {
        let guest = try FakeGuest()
        let service = try guest.service(at: 5000)
        guest.device.isDraining = true
        #expect(request(guest, from: 1025).wasReset)
        #expect(try service.accept() == nil)
        guest.device.isDraining = false
        #expect(request(guest, from: 1026).state == .established)
    }

    @Test("leaves clients in the backlog, and serves them when connections are made again")
    func clientsCome() throws {
        let guest = try FakeGuest()
        guest.device.isDraining = true
        let client = try guest.client()
        client.write("CONNECT 22\n")
        for _ in 0..<10 { guest.advance(by: .seconds(1)) }
        #expect(guest.takeReceived().isEmpty)
        #expect(client.read() == .wouldBlock)
        guest.device.isDraining = false
        guest.settle()
        #expect(guest.takeReceived().map(\.operation) == [Packet.request])
    }

    @Test("refuses a client that was let in before and has not named its port yet")
    func slowClient() throws {
        let guest = try FakeGuest()
        let client = try guest.client()
        client.write("CONNECT ")
        guest.settle()
        guest.device.isDraining = true
        client.write("22\n")
        guest.settle()
        #expect(guest.takeReceived().isEmpty)
        #expect(client.read() == .endOfFile)
    }

    @Test("has a client wait that may wait for the guest, as long as it may and no longer")
    func waitingClients() throws {
        let guest = try FakeGuest(.init(adjust: { $0.waitForGuest = .seconds(10) }))
        guest.stop()
        guest.device.reset()
        let clients = try (0..<2).map { _ in try guest.client() }
        clients[0].write("CONNECT 22\n")
        guest.settle()
        guest.device.isDraining = true
        guest.forgetAccounts()
        // The guest is there; the client has to wait all the same.
        try guest.start(at: guest.bases)
        for _ in 0..<50 { guest.advance(by: .milliseconds(100)) }
        #expect(guest.takeReceived().isEmpty)
        #expect(clients[0].read() == .wouldBlock)
        guest.device.isDraining = false
        guest.advance(by: .milliseconds(100))
        #expect(guest.takeReceived().first?.operation == Packet.request)
        // The other one names its port during the next drain, which is longer than its time.
        clients[1].write("CONNECT ")
        guest.settle()
        guest.device.isDraining = true
        clients[1].write("23\n")
        guest.settle()
        for _ in 0..<101 { guest.advance(by: .milliseconds(100)) }
        #expect(clients[1].read() == .endOfFile)
        #expect(!guest.takeReceived().contains { $0.operation == Packet.request })
    }
}
