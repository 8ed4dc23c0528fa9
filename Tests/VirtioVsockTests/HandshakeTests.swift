// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("A client on the host")
struct HandshakeTests {
    let guest: FakeGuest

    init() throws {
        guest = try FakeGuest()
    }

    /// Answers the request that has come.
    private func acceptRequest(at port: UInt32) throws -> GuestStream {
        let request = try #require(guest.takeReceived().first)
        #expect(request.operation == Packet.request)
        #expect(request.destinationPort == port)
        let stream = GuestStream(
            guest, peerPort: request.sourcePort, guestPort: port, allocation: 65_536)
        stream.respond(to: request)
        guest.settle()
        return stream
    }

    @Test("may write its line byte by byte")
    func bytewise() throws {
        let client = try guest.client()
        for byte in "CONNECT 4000\n".utf8 {
            #expect(guest.takeReceived().isEmpty)
            client.write([byte])
            guest.settle()
        }
        let stream = try acceptRequest(at: 4000)
        #expect(client.readText() == "OK \(stream.peerPort)\n")
    }

    @Test("may write its payload behind its line")
    func pipelined() throws {
        let client = try guest.client()
        client.write("CONNECT 4000\nhello")
        guest.settle()
        #expect(guest.received.count == 1, "no payload before the guest has accepted")
        let stream = try acceptRequest(at: 4000)
        #expect(stream.bytesRead == Array("hello".utf8))
        #expect(client.readText() == "OK \(stream.peerPort)\n")
    }

    @Test("may write its line, its payload and its end at once")
    func pipelinedAndHalfClosed() throws {
        let client = try guest.client()
        client.write("CONNECT 4000\nhello")
        client.shutDown(.writing)
        guest.settle()
        let stream = try acceptRequest(at: 4000)
        #expect(stream.bytesRead == Array("hello".utf8))
        #expect(stream.peerShutdown == 2)
        #expect(client.readText() == "OK \(stream.peerPort)\n")
        stream.write(Array("answer".utf8))
        guest.settle()
        #expect(client.readText() == "answer")
    }

    @Test("need not read the answer")
    func answerUnread() throws {
        let client = try guest.client()
        client.shutDown(.reading)
        client.write("CONNECT 4000\nhello")
        guest.settle()
        let stream = try acceptRequest(at: 4000)
        #expect(stream.bytesRead == Array("hello".utf8))
        #expect(stream.peerShutdown == 1)
    }

    @Test("gets an answer of nine bytes at most, by itself (systemd-ssh-proxy)")
    func answerLength() throws {
        var ports: Set<UInt32> = []
        for _ in 0..<300 {
            let client = try guest.client()
            client.write("CONNECT 22\n")
            guest.settle()
            let request = try #require(guest.takeReceived().first)
            #expect((10_000...65_535).contains(request.sourcePort))
            ports.insert(request.sourcePort)
            let stream = GuestStream(
                guest, peerPort: request.sourcePort, guestPort: 22, allocation: 65_536)
            stream.respond(to: request)
            stream.write(Array("banner".utf8))
            guest.settle()
            #expect(client.read(9) == .bytes(Array("OK \(request.sourcePort)\n".utf8)))
            #expect(client.readText() == "banner")
        }
        #expect(ports.count == 300)
    }

    @Test("is refused by the guest without a byte")
    func refused() throws {
        let client = try guest.client()
        client.write("CONNECT 4000\n")
        guest.settle()
        let request = try #require(guest.takeReceived().first)
        var reset = Packet()
        reset.sourcePort = 4000
        reset.destinationPort = request.sourcePort
        reset.operation = Packet.reset
        guest.send(reset)
        guest.settle()
        #expect(client.read() == .endOfFile)
        #expect(guest.takeReceived().isEmpty)
        #expect(guest.device.connectionCount == 0)
    }

    @Test(
        "is turned away for a line that names no port",
        arguments: ["CONNECT\n", "CONNECT -1\n", "CONNECT 4294967296\n", "HELLO\n", "\n"])
    func malformed(_ line: String) throws {
        let client = try guest.client()
        client.write(line)
        guest.settle()
        #expect(isClosed(client))
        #expect(guest.takeReceived().isEmpty)
        #expect(guest.device.statistics.failedHandshakes == 1)
    }

    @Test("is turned away for a line without end", arguments: ["C", "CONNECT 0", "CONNECT  "])
    func endless(_ start: String) throws {
        let client = try guest.client()
        client.write(start)
        let piece = [UInt8](repeating: Array(start.utf8).last ?? 0, count: 4096)
        // A MiB in all, if anybody takes it.
        var count = 0
        for _ in 0..<256 {
            count += max(0, client.write(piece))
            guest.settle()
        }
        #expect(count == 4096, "nobody does")
        #expect(isClosed(client))
        #expect(guest.device.statistics.failedHandshakes == 1)
    }

    @Test("that leaves at any moment is forgotten")
    func leaves() throws {
        for line in ["", "CONN", "CONNECT 4000", "CONNECT 4000\n", "CONNECT 4000\nhello"] {
            let client = try guest.client()
            client.write(line)
            client.close()
            guest.settle()
            for request in guest.takeReceived() where request.operation == Packet.request {
                let stream = GuestStream(
                    guest, peerPort: request.sourcePort, guestPort: 4000, allocation: 65_536)
                stream.respond(to: request)
                guest.settle()
                #expect(stream.state == .closed)
                if line.hasSuffix("hello") { #expect(stream.bytesRead == Array("hello".utf8)) }
            }
            guest.settle()
            #expect(guest.device.connectionCount == 0)
        }
    }

    @Test("that leaves before the guest has answered is taken back")
    func leavesBeforeAnswer() throws {
        let client = try guest.client()
        client.write("CONNECT 4000\n")
        guest.settle()
        let request = try #require(guest.takeReceived().first)
        client.close()
        guest.settle()
        let reset = try #require(guest.takeReceived().first)
        #expect(reset.operation == Packet.reset)
        // The guest's answer was on its way.
        var response = Packet()
        response.sourcePort = 4000
        response.destinationPort = request.sourcePort
        response.operation = Packet.response
        response.bufferAllocation = 65_536
        guest.send(response)
        guest.settle()
        #expect(guest.takeReceived().map(\.operation) == [Packet.reset])
        #expect(guest.device.connectionCount == 0)
    }

    @Test("has five seconds for its line")
    func silent() throws {
        let silent = try guest.client()
        guest.settle()
        guest.advance(by: .milliseconds(4999))
        #expect(silent.read() == .wouldBlock)
        guest.advance(by: .milliseconds(2))
        #expect(silent.read() == .endOfFile)
    }

    @Test("is not kept waiting by a thousand silent ones")
    func crowd() throws {
        var silent: [HostEnd] = []
        for _ in 0..<1000 {
            silent.append(try guest.client())
            if silent.count % 50 == 0 { guest.settle() }
        }
        let (stream, client) = try guest.accept(at: 22)
        client.write("hello")
        guest.settle()
        #expect(stream.bytesRead == Array("hello".utf8))
        #expect(silent.filter { $0.read() == .wouldBlock }.count <= 256)
        guest.advance(by: .seconds(6))
        #expect(silent.allSatisfy { $0.read() == .endOfFile })
        #expect(client.read() == .wouldBlock)
    }

    @Test("gives up after two seconds when the guest does not answer")
    func unanswered() throws {
        let client = try guest.client()
        client.write("CONNECT 4000\n")
        guest.settle()
        #expect(guest.takeReceived().count == 1)
        guest.advance(by: .milliseconds(2001))
        #expect(client.read() == .endOfFile)
        #expect(guest.takeReceived().map(\.operation) == [Packet.reset])
        #expect(guest.device.connectionCount == 0)
    }

    @Test("is turned away while there is no driver")
    func withoutDriver() throws {
        guest.stop()
        guest.device.reset()
        let client = try guest.client()
        client.write("CONNECT 4000\n")
        guest.settle()
        #expect(isClosed(client))
    }

    @Test("is connected as soon as queues that have stopped go on, if that is soon")
    func stoppedQueues() throws {
        let bases = guest.bases
        guest.stop()
        let client = try guest.client()
        let late = try guest.client()
        client.write("CONNECT 4000\n")
        guest.settle()
        guest.advance(by: .seconds(1))
        #expect(client.read() == .wouldBlock)
        try guest.start(at: bases)
        guest.settle()
        let stream = try acceptRequest(at: 4000)
        #expect(client.readText() == "OK \(stream.peerPort)\n")
        // Longer than the guest may take to answer.
        let next = guest.bases
        guest.stop()
        late.write("CONNECT 4000\n")
        guest.settle()
        guest.advance(by: .seconds(3))
        #expect(late.read() == .endOfFile)
        try guest.start(at: next)
        guest.settle()
        #expect(guest.takeReceived().isEmpty, "the guest does not hear of it")
        #expect(guest.device.connectionCount == 1)
    }

    private func isClosed(_ client: HostEnd) -> Bool {
        let outcome = client.read()
        return outcome == .endOfFile || outcome == .failed(104)
    }
}
