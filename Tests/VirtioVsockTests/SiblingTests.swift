// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("A sibling guest")
struct SiblingTests {
    /// The directory of the sockets: that of the first guest's own.
    private func guests(
        groups: [[String]] = [["blue"], ["blue"]], receiveBuffer: Int = 3776,
        connectionLimit: Int = 4096
    ) throws -> [FakeGuest] {
        let name = "vsock-siblings-" + String(UInt64.random(in: .min ... .max), radix: 16)
        return try groups.enumerated().map { index, groups in
            try FakeGuest(
                .init(
                    receiveBuffer: [receiveBuffer], cid: UInt64(3 + index), siblings: [3, 4],
                    adjust: {
                        $0.connectionLimit = connectionLimit
                        $0.siblings = SiblingOptions(
                            directory: "/tmp", groups: groups.map { "\(name)-\($0)" })
                    }))
        }
    }

    /// Turns every loop until nothing happens any more.
    private func settle(_ guests: [FakeGuest]) {
        for _ in 0..<4 { for guest in guests { guest.settle() } }
    }

    /// A connection that the first guest has made and the second has accepted.
    private func connect(
        _ guests: [FakeGuest], from port: UInt32 = 1024, allocation: UInt32 = 256 * 1024,
        type: UInt16 = 1
    ) throws -> (first: GuestStream, second: GuestStream) {
        let first = GuestStream(
            guests[0], peerPort: 5000, guestPort: port, allocation: allocation, type: type, peer: 4)
        first.request()
        settle(guests)
        #expect(first.state == .requested)
        let request = try #require(guests[1].takeReceived().first)
        #expect(request.operation == Packet.request)
        #expect(request.sourceCID == 3)
        #expect(request.sourcePort == port)
        #expect(request.destinationPort == 5000)
        #expect(request.type == type)
        let second = GuestStream(
            guests[1], peerPort: port, guestPort: 5000, allocation: allocation, type: type, peer: 3)
        second.respond(to: request)
        settle(guests)
        #expect(first.state == .established)
        return (first, second)
    }

    @Test("is reached by its context identifier, and both may send at once")
    func exchange() throws {
        let guests = try guests()
        let (first, second) = try connect(guests)
        let bytes = testBytes(1_000_000)
        let others = testBytes(1_000_000, seed: 2)
        first.write(bytes)
        second.write(others)
        for _ in 0..<400 where first.bytesRead.count + second.bytesRead.count < 2_000_000 {
            settle(guests)
            first.resume()
            second.resume()
        }
        expectSame(second.bytesRead, bytes)
        expectSame(first.bytesRead, others)
        first.close()
        settle(guests)
        #expect(first.wasReset)
        #expect(second.peerShutdown == 3)
        settle(guests)
        #expect(guests.allSatisfy { $0.device.connectionCount == 0 && $0.chainsUnderWay == 0 })
    }

    @Test("keeps messages whole")
    func messages() throws {
        let guests = try guests()
        let (first, second) = try connect(guests, type: 2)
        let sizes = [1, 3732, 10_000, 65_536]
        for size in sizes {
            first.writeMessage(testBytes(size, seed: size % 99))
            settle(guests)
        }
        #expect(second.messages.map(\.count) == sizes)
        for (message, size) in zip(second.messages, sizes) {
            expectSame(message, testBytes(size, seed: size % 99))
        }
    }

    @Test("that does not read stops the writer, with bounded memory in between")
    func credit() throws {
        let guests = try guests()
        let (first, second) = try connect(guests, allocation: 65_536)
        second.readsAtOnce = false
        let bytes = (0..<4).flatMap { testBytes(1_000_000, seed: $0) }
        first.write(bytes)
        for _ in 0..<200 {
            settle(guests)
            first.resume()
        }
        #expect(second.queue.count == 65_536, "no more than it grants")
        #expect(first.unsentCount > 1_000_000, "the writer waits")
        second.readsAtOnce = true
        second.read()
        for _ in 0..<400 where second.bytesRead.count < bytes.count {
            settle(guests)
            first.resume()
        }
        expectSame(second.bytesRead, bytes)
    }

    @Test("closes one half, and is still heard")
    func halfClose() throws {
        let guests = try guests()
        let (first, second) = try connect(guests)
        first.write(Array("question".utf8))
        first.shutDown(2)
        settle(guests)
        #expect(second.bytesRead == Array("question".utf8))
        #expect(second.peerShutdown == 2)
        second.write(Array("answer".utf8))
        settle(guests)
        #expect(first.bytesRead == Array("answer".utf8))
    }

    /// A request of the first guest that comes to nothing.
    private func refused(_ guests: [FakeGuest], peer: UInt64 = 4) -> Bool {
        let stream = GuestStream(
            guests[0], peerPort: 5000, guestPort: 1024, allocation: 65_536, peer: peer)
        stream.request()
        settle(guests)
        return stream.wasReset
    }

    @Test("of no common group cannot be reached")
    func groups() throws {
        #expect(refused(try guests(groups: [["blue"], ["red"]])))
        let shared = try guests(groups: [["blue", "red"], ["red"]])
        _ = try connect(shared)
    }

    @Test("has half of the connections at most: the rest is for the host and the guest itself")
    func share() throws {
        let guests = try guests(connectionLimit: 8)
        for port in UInt32(1024)..<1028 { _ = try connect(guests, from: port) }
        let fifth = GuestStream(
            guests[0], peerPort: 5000, guestPort: 1028, allocation: 65_536, peer: 4)
        fifth.request()
        settle(guests)
        #expect(fifth.wasReset)
        #expect(guests[1].takeReceived().isEmpty)
        #expect(guests[1].device.connectionCount == 4)
        let (stream, host) = try guests[1].accept(at: 22)
        stream.write(Array("hello".utf8))
        settle(guests)
        #expect(host.readText() == "hello")
    }

    @Test("that does not listen refuses")
    func noListener() throws {
        let guests = try guests()
        let stream = GuestStream(
            guests[0], peerPort: 5000, guestPort: 1024, allocation: 65_536, peer: 4)
        stream.request()
        settle(guests)
        let request = try #require(guests[1].takeReceived().first)
        var reset = Packet()
        reset.sourceCID = 4
        reset.destinationCID = 3
        reset.sourcePort = 5000
        reset.destinationPort = request.sourcePort
        reset.operation = Packet.reset
        guests[1].send(reset)
        settle(guests)
        #expect(stream.wasReset)
        #expect(guests.allSatisfy { $0.device.connectionCount == 0 })
    }

    @Test("that has no driver, or is gone, or is the guest itself, cannot be reached")
    func absent() throws {
        let guests = try guests()
        guests[1].stop()
        guests[1].device.reset()
        #expect(refused(guests))
        guests[1].device.close()
        #expect(refused(guests))
        let stream = GuestStream(
            guests[0], peerPort: 5000, guestPort: 1024, allocation: 65_536, peer: 3)
        stream.request()
        settle(guests)
        #expect(stream.wasReset || guests[0].takeReceived().contains { $0.sourceCID == 3 })
    }

    @Test("that goes in the middle ends the connection")
    func dies() throws {
        let guests = try guests()
        let (first, second) = try connect(guests)
        first.write(testBytes(300_000))
        settle(guests)
        guests[1].stop()
        guests[1].device.reset()
        for _ in 0..<10 {
            settle(guests)
            first.resume()
        }
        #expect(first.wasReset || first.peerShutdown == 3)
        #expect(guests.allSatisfy { $0.device.connectionCount == 0 })
        withExtendedLifetime(second) {}
    }

    @Test(
        "is not believed to be this guest, the host, or anything that is no guest",
        arguments: [
            "SIBLING 3 1 5000\n", "SIBLING 2 1 5000\n", "SIBLING 0 1 5000\n",
            "SIBLING 4 1\n", "SIBLING 4 1 5000 \n", "CONNECT 5000\n", "SIBLING 4 -1 5000\n",
            "SIBLING 4294967295 1 5000\n", "SIBLING 4 1 50000000000\n",
            "SIBLING 4 000000000000000000000000000000000000001 5000\n",
        ])
    func badLine(_ line: String) throws {
        let guests = try guests(groups: [["blue"]])
        let siblings = try #require(guests[0].options.siblings)
        let client = try HostEnd(connectingTo: "/tmp/\(siblings.groups[0]).3")
        client.write(line)
        settle(guests)
        // ECONNRESET, when the line was too long to be read.
        let outcome = client.read()
        #expect(outcome == .endOfFile || outcome == .failed(104))
        #expect(guests[0].takeReceived().isEmpty)
    }
}
