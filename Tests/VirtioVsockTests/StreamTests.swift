// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing

@testable import VirtioVsock

@Suite("A stream")
struct StreamTests {
    @Test("carries bytes from the guest to a service", arguments: RingFormat.allCases)
    func hostbound(_ format: RingFormat) throws {
        let guest = try FakeGuest(.init(format: format))
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        stream.write(Array("hello".utf8))
        guest.settle()
        #expect(host.readText() == "hello")
    }

    @Test("carries bytes from a client to the guest", arguments: RingFormat.allCases)
    func guestbound(_ format: RingFormat) throws {
        let guest = try FakeGuest(.init(format: format))
        let (stream, host) = try guest.accept(at: 22)
        host.write("hello")
        guest.settle()
        #expect(stream.bytesRead == Array("hello".utf8))
    }

    @Test("lets the server speak first: RESPONSE comes before its bytes")
    func serverSpeaksFirst() throws {
        let guest = try FakeGuest()
        let service = try guest.service(at: 22)
        for index in 0..<UInt32(Repetitions(1000, whole: 10_000).count) {
            let port = 2000 + index % 1000
            let stream = GuestStream(guest, peerPort: 22, guestPort: port, allocation: 65_536)
            stream.request()
            // The connection waits in the backlog: the server writes as soon as it is there.
            guest.turn()
            let host = try #require(try service.accept())
            host.write("SSH-2.0-banner\r\n")
            guest.settle()
            #expect(stream.state == .established)
            #expect(stream.bytesRead == Array("SSH-2.0-banner\r\n".utf8))
            stream.close()
            guest.settle()
            #expect(stream.wasReset)
            guest.streams = []
        }
    }

    @Test(
        "carries megabytes both ways at once, whole and in order", arguments: RingFormat.allCases,
        [1, 64, 100, 3732, 3733, 4096, 32_769, 65_536])
    func bulk(_ format: RingFormat, _ packetSize: Int) throws {
        let guest = try FakeGuest(.init(format: format))
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        stream.packetSize = packetSize
        let total = packetSize == 1 ? 5000 : packetSize <= 100 ? 100_000 : 1_000_000
        try exchange(guest, stream, host, testBytes(total), testBytes(total, seed: 2))
    }

    @Test(
        "fits into receive buffers of any shape",
        arguments: [[45], [108], [44, 4096], [10, 20, 30, 40, 500], [43, 2], [65_580]])
    func receiveBuffers(_ segments: [Int]) throws {
        let guest = try FakeGuest(.init(receiveBuffer: segments))
        let (stream, host) = try guest.accept(at: 22)
        let total = segments.reduce(0, +) == 45 ? 2000 : 100_000
        try exchange(guest, stream, host, [], testBytes(total))
    }

    @Test("passes over receive buffers that are too small, and gives them back empty")
    func smallReceiveBuffers() throws {
        let guest = try FakeGuest(.init(ringSize: 64, receiveBuffer: [3776], receiveBufferCount: 8))
        for size in [43, 1, 44] { guest.postBuffer([size]) }
        let (stream, host) = try guest.accept(at: 22)
        try exchange(guest, stream, host, [], testBytes(200_000))
    }

    @Test("passes over receive buffers that it could read")
    func readableReceiveBuffers() throws {
        let guest = try FakeGuest(.init(ringSize: 64, receiveBufferCount: 8))
        for _ in 0..<3 {
            guest.postChain(
                Chain(
                    readable: [guest.memory.segment([1, 2, 3])],
                    writable: [guest.memory.segment(byteCount: 3776)]))
        }
        guest.postChain(Chain(readable: [guest.memory.segment(byteCount: 3776)]))
        let (stream, host) = try guest.accept(at: 22)
        try exchange(guest, stream, host, [], testBytes(200_000))
        #expect(guest.device.statistics.malformedPackets >= 4)
    }

    @Test("gives receive buffers back that are too small when there are no others, too")
    func onlySmallReceiveBuffers() throws {
        let guest = try FakeGuest(.init(receiveBufferCount: 0))
        guest.postsBuffers = false
        for size in [43, 1, 20] { guest.postBuffer([size]) }
        var stray = Packet()
        stray.sourcePort = 1025
        stray.destinationPort = 7
        stray.operation = Packet.creditRequest
        guest.send(stray)
        guest.settle()
        #expect(guest.receiveRing.inFlightCount == 0)
        guest.postBuffer([44])
        guest.settle()
        #expect(guest.takeReceived().map(\.operation) == [Packet.reset])
    }

    @Test(
        "takes packets that lie in memory in any way",
        arguments: [
            FakeGuest.Layout.whole, .cut([1, 20]), .cut([44, 1, 1, 1]), .cut([60, 7]),
            .cut(Array(repeating: 3, count: 40)), .cut(Array(repeating: 500, count: 17)),
        ], [false, true])
    func layouts(_ layout: FakeGuest.Layout, _ indirect: Bool) throws {
        let guest = try FakeGuest()
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        stream.layout = layout
        stream.packetSize = 9000
        stream.isIndirect = indirect
        try exchange(guest, stream, host, testBytes(300_000), [])
    }

    @Test("uses the first len bytes of a packet and no more (virtio 1.3 §5.10.6)")
    func lengthBelowBuffer() throws {
        let guest = try FakeGuest()
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        var packet = stream.packet(Packet.readWrite)
        packet.payload = Array("hello, and rubbish".utf8)
        packet.claimedLength = 5
        let chain = Chain(readable: [guest.memory.segment(packet.header + packet.payload)])
        packet.payload = Array("hello".utf8)
        guest.offer(chain, packet)
        guest.settle()
        #expect(host.readText() == "hello")
    }

    @Test(
        "works on rings of two entries to 32768", arguments: RingFormat.allCases,
        (1...15).map { 1 << $0 } + [3, 100])
    func ringSizes(_ format: RingFormat, _ size: Int) throws {
        // The sizes of split rings are powers of two (virtio 1.3 §2.7).
        if format == .split && size & (size - 1) != 0 { return }
        let guest = try FakeGuest(
            .init(format: format, ringSize: size, receiveBufferCount: min(size, 300)))
        let (stream, host) = try guest.accept(at: 22)
        try exchange(guest, stream, host, testBytes(70_000), testBytes(70_000, seed: 2))
    }

    @Test("works without the event index", arguments: RingFormat.allCases)
    func withoutEventIndex(_ format: RingFormat) throws {
        let guest = try FakeGuest(.init(format: format, eventIndex: false))
        let (stream, host) = try guest.accept(at: 22)
        try exchange(guest, stream, host, testBytes(500_000), testBytes(500_000, seed: 2))
    }

    /// Moves bytes both ways until all have come.
    private func exchange(
        _ guest: FakeGuest, _ stream: GuestStream, _ host: HostEnd, _ hostbound: [UInt8],
        _ guestbound: [UInt8]
    ) throws {
        var unsent = guestbound[...]
        var arrived: [UInt8] = []
        stream.write(hostbound)
        var idleTurns = 0
        while arrived.count < hostbound.count || stream.bytesRead.count < guestbound.count {
            let before = arrived.count + stream.bytesRead.count
            if !unsent.isEmpty {
                unsent = unsent.dropFirst(max(0, host.write(Array(unsent.prefix(50_000)))))
            }
            guest.settle()
            if case .bytes(let bytes) = host.read() { arrived += bytes }
            guest.settle()
            stream.resume()
            idleTurns = before == arrived.count + stream.bytesRead.count ? idleTurns + 1 : 0
            try #require(idleTurns < 20, "the stream goes on")
        }
        expectSame(arrived, hostbound)
        expectSame(stream.bytesRead, guestbound)
        guest.settle()
        #expect(guest.chainsUnderWay == 0)
        #expect(!stream.wasReset)
    }
}
