// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("A window")
struct WindowTests {
    let guest: FakeGuest

    init() throws {
        guest = try FakeGuest()
    }

    @Test("of the guest is filled to its last byte, and not beyond, while nobody reads")
    func guestDoesNotRead() throws {
        let (stream, host) = try guest.accept(at: 22, allocation: 100_000)
        stream.readsAtOnce = false
        let sent = fill(host)
        #expect(stream.queue.count == 100_000)
        guest.advance(by: .seconds(1))
        #expect(stream.queue.count == 100_000)
        #expect(stream.creditRequests <= 1, "one question is enough")
        var read = 0
        for _ in 0..<100 where read < sent {
            stream.read(30_000)
            guest.settle()
            read = stream.bytesRead.count
        }
        #expect(read == sent)
    }

    @Test("of the host is renewed before the guest asks, at the reader's pace")
    func hostReadsSlowly() throws {
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        let bytes = testBytes(1_000_000) + testBytes(1_000_000, seed: 2)
        stream.write(bytes)
        guest.settle()
        #expect(stream.unsentCount > 0, "a writer waits for a reader that does not read")
        let held = stream.unsentCount
        guest.advance(by: .seconds(1))
        #expect(stream.unsentCount == held)
        var arrived: [UInt8] = []
        for _ in 0..<1000 where arrived.count < bytes.count {
            if case .bytes(let part) = host.read(40_000) { arrived += part }
            guest.settle()
        }
        expectSame(arrived, bytes)
    }

    @Test("of the host is granted twice at most, to go on while bytes are copied, and then kept to")
    func advance() throws {
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        let bytes = (0..<4).flatMap { testBytes(1_000_000, seed: $0) }
        stream.write(bytes)
        guest.settle()
        let waiting = try #require(guest.device.connections.first).waitingByteCount
        #expect(waiting > 256 << 10)
        #expect(waiting <= 512 << 10)
        var arrived: [UInt8] = []
        for _ in 0..<1000 where arrived.count < bytes.count {
            if case .bytes(let part) = host.read(50_000) { arrived += part }
            guest.settle()
            let waiting = guest.device.connections.first?.waitingByteCount ?? 0
            #expect(waiting <= 512 << 10)
        }
        expectSame(arrived, bytes)
        #expect(guest.device.connections.first?.waitingByteCount == 0)
    }

    @Test(
        "of any size moves everything both ways",
        arguments: [UInt32(1), 128, 1000, 4096, 65_536, 0xffff_ffff])
    func sizes(_ allocation: UInt32) throws {
        let (stream, host) = try guest.accept(at: 22, allocation: allocation)
        let total = allocation == 1 ? 500 : allocation < 4096 ? 20_000 : 1_000_000
        let bytes = testBytes(total)
        stream.packetSize = 3000
        stream.write(bytes)
        var unsent = bytes[...]
        var arrived: [UInt8] = []
        for _ in 0..<2000 where arrived.count < total || stream.bytesRead.count < total {
            if !unsent.isEmpty {
                unsent = unsent.dropFirst(max(0, host.write(Array(unsent.prefix(60_000)))))
            }
            guest.settle()
            if case .bytes(let part) = host.read() { arrived += part }
            stream.resume()
        }
        expectSame(arrived, bytes)
        expectSame(stream.bytesRead, bytes)
    }

    @Test(
        "of the guest that is far below ours keeps both directions going, however long",
        arguments: [(UInt32(100_000), UInt32(8 << 20)), (256 << 10, 8 << 20), (4096, 256 << 10)])
    func unequal(_ guestAllocation: UInt32, _ ourAllocation: UInt32) throws {
        let guest = try FakeGuest(.init(adjust: { $0.bufferByteCount = ourAllocation }))
        let (stream, host) = try guest.accept(at: 22, allocation: guestAllocation)
        for round in 0..<Repetitions(2, whole: 105).count {
            let bytes = testBytes(1_000_000, seed: 1 + round)
            stream.write(bytes)
            var unsent = bytes[...]
            var arrived: [UInt8] = []
            var read: [UInt8] = []
            for _ in 0..<2000 where arrived.count < bytes.count || read.count < bytes.count {
                if !unsent.isEmpty {
                    unsent = unsent.dropFirst(max(0, host.write(Array(unsent.prefix(60_000)))))
                }
                guest.settle()
                if case .bytes(let part) = host.read() { arrived += part }
                read += stream.takeRead()
                stream.resume()
            }
            expectSame(arrived, bytes)
            expectSame(read, bytes)
        }
        #expect(stream.creditRequests <= guest.device.statistics.creditStalls)
    }

    @Test("that shrinks below what is under way stops the stream until it has grown again")
    func shrinks() throws {
        let (stream, host) = try guest.accept(at: 22, allocation: 100_000)
        stream.readsAtOnce = false
        host.write(testBytes(60_000))
        guest.settle()
        #expect(stream.queue.count == 60_000)
        stream.allocation = 128
        stream.send(Packet.creditUpdate)
        host.write(testBytes(50_000))
        guest.settle()
        #expect(stream.queue.count == 60_000)
        stream.allocation = 200_000
        stream.send(Packet.creditUpdate)
        guest.settle()
        #expect(stream.queue.count == 110_000)
    }

    @Test("of none at all stays shut, and asks once")
    func shut() throws {
        let (stream, host) = try guest.accept(at: 22, allocation: 0)
        host.write("hello")
        guest.settle()
        for _ in 0..<5 { guest.advance(by: .seconds(1)) }
        #expect(stream.queue.isEmpty && stream.bytesRead.isEmpty)
        #expect(stream.creditRequests <= 1)
        stream.allocation = 5
        stream.send(Packet.creditUpdate)
        guest.settle()
        #expect(stream.bytesRead == Array("hello".utf8))
    }

    @Test("is counted in packets, too: a guest pays for each, however small")
    func packetCount() throws {
        let (stream, host) = try guest.accept(at: 22)
        stream.readsAtOnce = false
        var sent = 0
        for _ in 0..<1000 {
            sent += max(0, host.write(testBytes(100)))
            guest.settle()
        }
        #expect(sent > 25_600, "the rest waits in the socket")
        #expect(stream.queue.count == 25_600, "256 KiB are worth 256 packets")
        #expect(stream.creditRequests <= 1)
        stream.readsAtOnce = true
        stream.read()
        guest.settle()
        #expect(stream.bytesRead.count == sent)
        #expect(!stream.wasReset)
    }

    @Test("is counted in packets when small writes come in bursts, too")
    func packetCountOfBursts() throws {
        let (stream, host) = try guest.accept(at: 22)
        stream.readsAtOnce = false
        var sent = 0
        for burst in 0..<400 {
            for _ in 0..<1 + burst % 5 { sent += max(0, host.write(testBytes(100))) }
            guest.settle()
        }
        // The auditor counts them.
        #expect(sent > stream.queue.count)
        stream.readsAtOnce = true
        stream.read()
        guest.settle()
        #expect(stream.bytesRead.count == sent)
    }

    @Test("of others does not suffer from one that is shut")
    func independence() throws {
        let service = try guest.service(at: 5000)
        let stuck = try guest.connect(to: service, port: 5000, from: 1)
        stuck.stream.readsAtOnce = false
        fill(stuck.host)
        stuck.stream.write(testBytes(1_000_000))
        guest.settle()
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 2)
        for _ in 0..<20 {
            stream.write(testBytes(100_000))
            host.write(testBytes(50_000))
            guest.settle()
            guard case .bytes(let bytes) = host.read() else { break }
            expectSame(bytes, testBytes(100_000))
        }
        #expect(stream.bytesRead.count == 1_000_000)
    }

    /// Writes until nothing more goes in; how much that was.
    @discardableResult
    private func fill(_ host: HostEnd) -> Int {
        var sent = 0
        for _ in 0..<1000 {
            let count = host.write(testBytes(50_000))
            guest.settle()
            if count <= 0 { break }
            sent += count
        }
        return sent
    }
}
