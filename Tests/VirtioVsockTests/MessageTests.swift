// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("A connection of messages")
struct MessageTests {
    let guest: FakeGuest
    let service: HostService

    init() throws {
        guest = try FakeGuest()
        service = try guest.service(at: 5000, kind: .sequencedPacket)
    }

    private func connect(
        from port: UInt32 = 1025, allocation: UInt32 = 256 * 1024
    ) throws -> (stream: GuestStream, host: HostEnd) {
        try guest.connect(to: service, port: 5000, from: port, allocation: allocation, type: 2)
    }

    @Test("keeps the guest's messages whole, of one packet or many")
    func hostbound() throws {
        let (stream, host) = try connect()
        stream.packetSize = 3000
        for size in [1, 64, 2999, 3000, 3001, 65_536, 200_000] {
            stream.writeMessage(testBytes(size, seed: size % 99))
            guest.settle()
            #expect(host.read() == .bytes(testBytes(size, seed: size % 99)))
        }
        #expect(guest.chainsUnderWay == 0)
    }

    @Test("keeps the host's messages whole, over as many receive buffers as they take")
    func guestbound() throws {
        let (stream, host) = try connect()
        let sizes = [1, 64, 3731, 3732, 3733, 65_536, 200_000]
        for size in sizes {
            #expect(host.write(testBytes(size, seed: size % 99)) == size)
            guest.settle()
        }
        #expect(stream.messages.map(\.count) == sizes)
        for (message, size) in zip(stream.messages, sizes) {
            expectSame(message, testBytes(size, seed: size % 99))
        }
    }

    @Test("carries messages of no bytes")
    func empty() throws {
        let (stream, host) = try connect()
        host.write([])
        host.write("after")
        guest.settle()
        #expect(stream.messages == [[], Array("after".utf8)])
    }

    @Test("takes no more when the guest sends no end of messages of no bytes that nobody reads")
    func emptyForEver() throws {
        let (stream, host) = try connect()
        // VIRTIO_VSOCK_SEQ_EOM; VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE is the answer.
        for _ in 0..<20_000 where stream.peerShutdown & 1 == 0 {
            stream.send(Packet.readWrite, flags: 1)
            guest.settle()
        }
        #expect(stream.peerShutdown & 1 == 1)
        withExtendedLifetime(host) {}
    }

    @Test("lets a client name the port in a message, at <path>_seqpacket")
    func client() throws {
        let client = try HostEnd(
            connectingTo: guest.path + "_seqpacket", kind: .sequencedPacket)
        client.write("CONNECT 4000\n")
        guest.settle()
        let request = try #require(guest.takeReceived().first)
        #expect(request.operation == Packet.request)
        #expect(request.type == 2)
        let stream = GuestStream(
            guest, peerPort: request.sourcePort, guestPort: 4000, allocation: 65_536, type: 2)
        stream.respond(to: request)
        client.write("one")
        client.write("two")
        guest.settle()
        #expect(client.readText() == "OK \(request.sourcePort)\n")
        #expect(stream.messages == [Array("one".utf8), Array("two".utf8)])
    }

    @Test("turns a client away that sends payload in the message of its line")
    func mixedLine() throws {
        let client = try HostEnd(
            connectingTo: guest.path + "_seqpacket", kind: .sequencedPacket)
        client.write("CONNECT 4000\nhello")
        guest.settle()
        // ECONNRESET: it is closed with its message unread.
        #expect(client.read() == .failed(104))
        #expect(guest.takeReceived().isEmpty)
    }

    @Test("delivers nothing of a message whose end never comes")
    func halfMessage() throws {
        let (stream, host) = try connect()
        stream.writeMessage(testBytes(1000))
        stream.writeMessage(testBytes(1000), isComplete: false)
        stream.reset()
        guest.settle()
        #expect(host.read() == .bytes(testBytes(1000)))
        #expect(host.read() == .endOfFile)
        #expect(guest.device.connectionCount == 0)
    }

    @Test("carries the longest message that it grants, and is reset for a longer one")
    func longest() throws {
        let (stream, host) = try connect()
        let limit = Int(stream.peerAllocation)
        #expect(limit >= 100_000)
        let bytes = testBytes(limit)
        stream.writeMessage(bytes)
        guest.settle()
        guard case .bytes(let message) = host.read() else {
            Issue.record("the message has come")
            return
        }
        expectSame(message, bytes)
        guest.settle()
        stream.writeMessage(testBytes(limit + 1))
        guest.settle()
        #expect(stream.wasReset)
        #expect(host.read() == .endOfFile, "nothing of it is delivered")
    }

    @Test("is reset when the host sends a message that the guest could never hold")
    func tooLong() throws {
        let (stream, host) = try connect(allocation: 1000)
        host.write(testBytes(1000))
        guest.settle()
        #expect(stream.messages.map(\.count) == [1000])
        host.write(testBytes(1001))
        guest.settle()
        #expect(stream.wasReset)
        // ECONNRESET: it is closed with the message unread.
        #expect(host.read() == .failed(104))
    }

    @Test("keeps messages apart that come in parts on several connections at once")
    func interleaved() throws {
        let ends = try (UInt32(1)...3).map { try connect(from: $0) }
        for part in 0..<4 {
            for (index, end) in ends.enumerated() {
                end.stream.writeMessage(
                    testBytes(500, seed: index), isComplete: part == 3)
            }
        }
        guest.settle()
        for (index, end) in ends.enumerated() {
            let part = testBytes(500, seed: index)
            #expect(end.host.read() == .bytes(part + part + part + part))
        }
    }

    @Test("waits for a slow reader, and keeps every border")
    func slowReader() throws {
        let (stream, host) = try connect()
        var sent = 0
        for _ in 0..<2000 where stream.credit >= 5000 {
            stream.writeMessage(testBytes(5000, seed: sent))
            sent += 1
            guest.settle()
        }
        #expect(stream.credit < 5000, "the guest waits for the reader")
        for index in 0..<sent {
            #expect(host.read() == .bytes(testBytes(5000, seed: index)))
            guest.settle()
        }
        #expect(stream.credit >= 128 * 1024)
        stream.close()
        guest.settle()
        #expect(host.read() == .endOfFile)
    }

    @Test("ends as a stream does")
    func ends() throws {
        let (stream, host) = try connect()
        host.write("farewell")
        host.close()
        guest.settle()
        #expect(stream.messages == [Array("farewell".utf8)])
        #expect(stream.peerShutdown == 3)
        #expect(guest.device.connectionCount == 0)
    }
}
