// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("Closing a stream")
struct CloseTests {
    let guest: FakeGuest
    let service: HostService
    /// Half a MiB each.
    private let tenMebibytes = Repetitions(2, whole: 20)

    init() throws {
        guest = try FakeGuest()
        service = try guest.service(at: 5000)
    }

    private func connect(from port: UInt32 = 1025) throws -> (stream: GuestStream, host: HostEnd) {
        try guest.connect(to: service, port: 5000, from: port)
    }

    // MARK: Halves

    @Test("by the host's half tells the guest, which goes on sending")
    func hostClosesHalf() throws {
        let (stream, host) = try connect()
        host.write("last words")
        host.shutDown(.writing)
        guest.settle()
        #expect(stream.bytesRead == Array("last words".utf8))
        #expect(stream.peerShutdown == 2)
        for round in 0..<tenMebibytes.count {
            let bytes = testBytes(1 << 19, seed: round)
            stream.write(bytes)
            expectSame(readAll(host, bytes.count), bytes)
        }
        stream.close()
        guest.settle()
        #expect(stream.wasReset)
        #expect(host.read() == .endOfFile)
        #expect(guest.device.connectionCount == 0)
    }

    @Test("by the guest's half tells the host, which goes on sending")
    func guestClosesHalf() throws {
        let (stream, host) = try connect()
        stream.write(Array("last words".utf8))
        stream.shutDown(2)
        guest.settle()
        #expect(host.readText() == "last words")
        #expect(host.read() == .endOfFile)
        for round in 0..<tenMebibytes.count {
            let bytes = testBytes(1 << 19, seed: round)
            send(bytes, host)
            expectSame(stream.takeRead(), bytes)
        }
        stream.close()
        guest.settle()
        #expect(stream.wasReset)
        #expect(guest.device.connectionCount == 0)
    }

    @Test("by the guest's half waits for bytes that the host has not read")
    func guestClosesHalfBehindBacklog() throws {
        let (stream, host) = try connect()
        let bytes = testBytes(1_000_000) + testBytes(1_000_000, seed: 2)
        stream.write(bytes)
        guest.settle()
        var arrived: [UInt8] = []
        while stream.unsentCount > 0 {
            guard case .bytes(let part) = host.read(10_000) else { break }
            arrived += part
            guest.settle()
        }
        stream.shutDown(2)
        guest.settle()
        arrived += readAll(host, bytes.count - arrived.count)
        expectSame(arrived, bytes)
        guest.settle()
        #expect(host.read() == .endOfFile)
    }

    @Test("by the host's reading half makes the guest's writer fail")
    func hostStopsReading() throws {
        let (stream, host) = try connect()
        host.shutDown(.reading)
        stream.write(testBytes(1000))
        guest.settle()
        #expect(stream.peerShutdown == 1)
        #expect(stream.state == .established)
        host.write("still here")
        guest.settle()
        #expect(stream.bytesRead == Array("still here".utf8))
        // What is on its way is counted, or the guest would wait for ever.
        stream.write(testBytes(900_000))
        guest.settle()
        #expect(stream.unsentCount == 0)
    }

    @Test("by the guest's reading half makes the host's writer fail")
    func guestStopsReading() throws {
        let (stream, host) = try connect()
        stream.shutDown(1)
        guest.settle()
        #expect(host.write("into the void") == -32, "EPIPE")
        stream.write(Array("still here".utf8))
        guest.settle()
        #expect(host.readText() == "still here")
    }

    @Test("half by half by the guest is a close")
    func guestClosesBothHalves() throws {
        let (stream, host) = try connect()
        stream.shutDown(2)
        guest.settle()
        stream.shutDown(1)
        guest.settle()
        #expect(stream.wasReset)
        #expect(host.read() == .endOfFile)
    }

    @Test("with no flags is nothing at all")
    func emptyShutdown() throws {
        let (stream, host) = try connect()
        stream.shutDown(0)
        stream.write(Array("hello".utf8))
        guest.settle()
        #expect(host.readText() == "hello")
        #expect(!stream.wasReset)
    }

    @Test("as sd_notify does it takes no time: write, close half, wait for the end")
    func notify() throws {
        for port in UInt32(2000)..<2000 + UInt32(Repetitions(200, whole: 1000).count) {
            let (stream, host) = try connect(from: port)
            stream.write(Array("READY=1".utf8))
            stream.shutDown(2)
            guest.settle()
            #expect(host.readText() == "READY=1")
            #expect(host.read() == .endOfFile)
            host.close()
            guest.settle()
            #expect(stream.peerShutdown == 3)
            #expect(stream.state == .closed)
        }
        #expect(guest.device.connectionCount == 0)
    }

    // MARK: Both halves

    @Test("by the guest is answered at once; what it sent waits for a late reader")
    func lateHostReader() throws {
        let (stream, host) = try connect()
        let bytes = testBytes(256 * 1024)
        stream.write(bytes)
        stream.close()
        guest.settle()
        #expect(stream.wasReset, "close() in the guest must not wait for the host")
        #expect(guest.device.connectionCount == 0)
        guest.advance(by: .seconds(30))
        expectSame(readAll(host, bytes.count), bytes)
        #expect(host.read() == .endOfFile)
    }

    @Test("by the host is told after its last bytes; the guest may read them late")
    func lateGuestReader() throws {
        let (stream, host) = try connect()
        stream.readsAtOnce = false
        let bytes = testBytes(256 * 1024)
        // A socket does not take as much at once.
        #expect(host.write(Array(bytes.prefix(100_000))) == 100_000)
        guest.settle()
        #expect(host.write(Array(bytes.dropFirst(100_000))) == bytes.count - 100_000)
        host.close()
        guest.settle()
        expectSame(stream.queue, bytes)
        // Though the window is full.
        #expect(stream.peerShutdown == 3)
        guest.advance(by: .seconds(30))
        #expect(!stream.wasReset, "bytes that the guest has not read stay")
        stream.read()
        guest.settle()
        expectSame(stream.bytesRead, bytes)
    }

    @Test("by the host with bytes unread is a close all the same (ECONNRESET)")
    func hostClosesUnread() throws {
        let (stream, host) = try connect()
        stream.write(testBytes(1000))
        guest.settle()
        host.write("farewell")
        host.close()
        guest.settle()
        #expect(stream.bytesRead == Array("farewell".utf8))
        #expect(stream.peerShutdown == 3)
        #expect(guest.device.connectionCount == 0)
    }

    @Test("by the host in the middle of the guest's writing ends the writer's wait")
    func hostDiesMidTransfer() throws {
        let (stream, host) = try connect()
        for _ in 0..<4 { stream.write(testBytes(1_000_000)) }
        guest.settle()
        #expect(stream.unsentCount > 0)
        host.close()
        guest.settle()
        #expect(stream.peerShutdown == 3)
        #expect(guest.device.connectionCount == 0)
        #expect(guest.chainsUnderWay == 0)
    }

    @Test("by both at the same moment ends for both")
    func crossing() throws {
        let (stream, host) = try connect()
        host.close()
        stream.close()
        guest.settle()
        #expect(stream.wasReset || stream.peerShutdown == 3)
        #expect(stream.wasReset, "a guest that closes waits for RST")
        #expect(guest.device.connectionCount == 0)
    }

    @Test("by the guest after the host's close was told is answered, too")
    func crossingLater() throws {
        let (stream, host) = try connect()
        stream.readsAtOnce = false
        host.write("unread")
        host.close()
        guest.settle()
        #expect(stream.peerShutdown == 3)
        stream.close()
        guest.settle()
        #expect(stream.wasReset)
        #expect(guest.device.connectionCount == 0)
    }

    @Test("keeps the ports for longer than the guest's 8 s when it does not answer")
    func unansweredClose() throws {
        let (stream, host) = try connect()
        stream.readsAtOnce = false
        host.write("unread")
        host.close()
        guest.settle()
        guest.advance(by: .seconds(9))
        #expect(guest.device.connectionCount == 1)
        guest.advance(by: .seconds(2))
        #expect(guest.device.connectionCount == 0)
        stream.reset()
        guest.settle()
        #expect(guest.takeReceived().isEmpty, "RST is never answered")
    }

    @Test("by RST of the guest keeps what it had sent")
    func guestResets() throws {
        let (stream, host) = try connect()
        let bytes = testBytes(250_000)
        stream.write(bytes)
        guest.settle()
        stream.reset()
        guest.settle()
        #expect(guest.device.connectionCount == 0)
        expectSame(readAll(host, bytes.count), bytes)
        #expect(host.read() == .endOfFile)
    }

    @Test("by RST of the guest right behind its bytes grants no credit for them")
    func guestResetsAtOnce() throws {
        let (stream, host) = try connect()
        let bytes = testBytes(200_000)
        stream.write(bytes)
        stream.reset()
        guest.settle()
        #expect(guest.takeReceived().isEmpty, "the guest knows of no connection")
        #expect(guest.device.connectionCount == 0)
        expectSame(readAll(host, bytes.count), bytes)
        #expect(host.read() == .endOfFile)
    }

    @Test("by a lingerer's reader lets it go")
    func lingererDies() throws {
        let (stream, host) = try connect()
        stream.write(testBytes(256 * 1024))
        stream.close()
        guest.settle()
        host.close()
        guest.settle()
        let (_, other) = try connect()
        #expect(other.read() == .wouldBlock, "the same ports serve again")
    }

    // MARK: Moving

    private func readAll(_ host: HostEnd, _ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        for _ in 0..<1000 where bytes.count < count {
            guest.settle()
            if case .bytes(let part) = host.read() { bytes += part }
        }
        return bytes
    }

    private func send(_ bytes: [UInt8], _ host: HostEnd) {
        var rest = bytes[...]
        for _ in 0..<1000 where !rest.isEmpty {
            rest = rest.dropFirst(max(0, host.write(Array(rest.prefix(50_000)))))
            guest.settle()
        }
    }
}
