// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

/// SHUTDOWN needs no credit (virtio 1.3 §5.10.6.3 counts payload alone): a guest may wait for the end before
/// it reads.
@Suite("The end of the host's bytes, behind a window that is full,")
struct HiddenEndTests {
    let guest: FakeGuest
    let service: HostService
    let messages: HostService

    init() throws {
        guest = try FakeGuest()
        service = try guest.service(at: 5000)
        messages = try guest.service(at: 5001, kind: .sequencedPacket)
    }

    /// A guest that grants little and does not read.
    private func connect(allocation: UInt32 = 1000) throws -> (stream: GuestStream, host: HostEnd) {
        let ends = try guest.connect(
            to: service, port: 5000, from: 1025, allocation: allocation)
        ends.stream.readsAtOnce = false
        return ends
    }

    private func connectMessages() throws -> (stream: GuestStream, host: HostEnd) {
        let ends = try guest.connect(
            to: messages, port: 5001, from: 1025, allocation: 4000, type: 2)
        ends.stream.readsAtOnce = false
        return ends
    }

    @Test("is told at once, and the other half lives on")
    func half() throws {
        let (stream, host) = try connect()
        host.write(testBytes(1000))
        guest.settle()
        host.shutDown(.writing)
        guest.settle()
        #expect(stream.queue.count == 1000)
        #expect(stream.peerShutdown == 2)
        #expect(stream.state == .established)
        stream.write(Array("still here".utf8))
        guest.settle()
        #expect(host.readText() == "still here")
        stream.read()
        guest.settle()
        expectSame(stream.bytesRead, testBytes(1000))
        host.close()
        guest.settle()
        #expect(stream.peerShutdown == 3)
        #expect(guest.device.connectionCount == 0)
    }

    @Test("is told at once when it comes with the bytes that fill the window")
    func together() throws {
        let (stream, host) = try connect()
        host.write(testBytes(1000))
        host.shutDown(.writing)
        guest.settle()
        #expect(stream.queue.count == 1000)
        #expect(stream.peerShutdown == 2)
        #expect(stream.creditRequests == 0, "nothing is left to ask credit for")
    }

    @Test("waits for the bytes before it, and for no more than these")
    func behindBytes() throws {
        let (stream, host) = try connect()
        host.write(testBytes(2000))
        host.shutDown(.writing)
        guest.settle()
        #expect(stream.queue.count == 1000)
        #expect(stream.peerShutdown == 0, "bytes are before it")
        #expect(stream.creditRequests == 1)
        stream.read()
        guest.settle()
        #expect(stream.queue.count == 1000)
        #expect(stream.peerShutdown == 2)
        stream.read()
        guest.settle()
        expectSame(stream.bytesRead, testBytes(2000))
        stream.close()
        guest.settle()
        #expect(stream.wasReset)
    }

    @Test("is told with the close of the whole, and what the guest sends then is nobody's")
    func close() throws {
        let (stream, host) = try connect()
        host.write(testBytes(1000))
        guest.settle()
        host.close()
        guest.settle()
        #expect(stream.peerShutdown == 3)
        stream.write(testBytes(500))
        guest.settle()
        #expect(!stream.wasReset, "a guest with bytes unread may have sent before it was told")
        stream.read()
        expectSame(stream.bytesRead, testBytes(1000))
        stream.reset()
        guest.settle()
        #expect(guest.device.connectionCount == 0)
    }

    @Test("tells a guest that writes of a close although bytes wait, and the rest behind them")
    func closeBehindBytes() throws {
        let (stream, host) = try connect()
        host.write(testBytes(2500))
        guest.settle()
        host.close()
        guest.settle()
        #expect(stream.peerShutdown == 1, "the host reads no more; what it sent is still to come")
        for count in [1000, 2000] {
            stream.read()
            guest.settle()
            #expect(stream.bytesRead.count == count)
        }
        #expect(stream.peerShutdown == 3)
        stream.read()
        expectSame(stream.bytesRead, testBytes(2500))
    }

    @Test("is told when it is an error: the host has left bytes unread")
    func connectionReset() throws {
        let (stream, host) = try connect()
        stream.write(testBytes(300))
        host.write(testBytes(1000))
        guest.settle()
        host.close()
        guest.settle()
        #expect(stream.peerShutdown == 3)
        #expect(stream.queue.count == 1000)
    }

    @Test("is told when there is credit for bytes, and none for packets")
    func packets() throws {
        let (stream, host) = try connect(allocation: 4096)
        for _ in 0..<4 {
            host.write(testBytes(100))
            guest.settle()
        }
        #expect(stream.queue.count == 400)
        host.shutDown(.writing)
        guest.settle()
        #expect(stream.peerShutdown == 2)
    }

    @Test("is told to a guest that has granted nothing at all")
    func nothingGranted() throws {
        let (stream, host) = try connect(allocation: 0)
        host.shutDown(.writing)
        guest.settle()
        #expect(stream.peerShutdown == 2)
    }

    @Test("costs a wake-up and no more while bytes are before it")
    func rest() throws {
        let (stream, host) = try connect()
        host.write(testBytes(2000))
        host.shutDown(.writing)
        guest.settle()
        let packets = guest.device.statistics.packetsToGuest
        for _ in 0..<10 {
            guest.advance(by: .seconds(1))
            // A guest that says the same again.
            stream.send(Packet.creditUpdate)
            guest.settle()
        }
        #expect(guest.device.statistics.packetsToGuest == packets)
        #expect(stream.peerShutdown == 0)
    }

    // MARK: Messages

    @Test("is told behind messages, too")
    func message() throws {
        let (stream, host) = try connectMessages()
        host.write(testBytes(1500))
        host.write(testBytes(2500))
        guest.settle()
        host.shutDown(.writing)
        guest.settle()
        #expect(stream.messages.map(\.count) == [1500, 2500])
        #expect(stream.peerShutdown == 2)
        host.close()
        guest.settle()
        #expect(stream.peerShutdown == 3)
    }

    @Test("waits for the rest of a message that the window has cut")
    func cutMessage() throws {
        let (stream, host) = try connectMessages()
        host.write(testBytes(1500))
        host.write(testBytes(4000))
        host.shutDown(.writing)
        guest.settle()
        #expect(stream.messages.map(\.count) == [1500])
        #expect(stream.queue.count == 4000)
        #expect(stream.peerShutdown == 0)
        stream.read(1500)
        guest.settle()
        #expect(stream.messages.map(\.count) == [1500, 4000])
        #expect(stream.peerShutdown == 2)
    }

    @Test("does not swallow messages behind one of no bytes")
    func emptyMessage() throws {
        let (stream, host) = try connectMessages()
        host.write([])
        host.write("after")
        host.close()
        guest.settle()
        #expect(stream.messages == [[], Array("after".utf8)])
        #expect(stream.peerShutdown == 3)
    }
}
