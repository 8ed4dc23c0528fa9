// SPDX-License-Identifier: Apache-2.0

import Driver
import Glibc
import LinuxIO
import Logging
import Testing
import Virtio

@testable import VirtioVsock

@Suite("A vsock device")
struct LifecycleTests {
    @Test("shows the guest's context identifier, 64 bits little-endian (virtio 1.3 §5.10.4)")
    func configuration() throws {
        let guest = try FakeGuest()
        #expect(guest.device.readConfiguration() == [3, 0, 0, 0, 0, 0, 0, 0])
        #expect(!guest.device.writeConfiguration([4], at: 0))
        #expect(guest.device.queueCount == 3)
        #expect(guest.device.offeredFeatures.rawValue & 0b101 == 0b101)
        #expect(guest.device.offeredFeatures.rawValue & (1 << 32) != 0)
    }

    @Test(
        "is not made for a context identifier that no guest may have",
        arguments: [UInt64(0), 1, 2, 0xffff_ffff, 0x1_0000_0003, .max])
    func identifiers(_ identifier: UInt64) throws {
        #expect(throws: VsockError.illegalContextID(identifier)) {
            try VsockOptions(guestCID: identifier, path: "/tmp/v").validate()
        }
    }

    @Test("is not made where the sockets of single ports would have too long names")
    func longPath() throws {
        let path = "/tmp/" + String(repeating: "x", count: 92)
        #expect(throws: VsockError.pathTooLong(path: path, byteCount: 97, limit: 96)) {
            try VsockOptions(guestCID: 3, path: path).validate()
        }
        try VsockOptions(guestCID: 3, path: String(path.dropLast())).validate()
        #expect(throws: VsockError.illegalPath("")) {
            try VsockOptions(guestCID: 3, path: "").validate()
        }
    }

    @Test("is not made at a path where another one listens, and leaves files alone")
    func pathInUse() throws {
        let guest = try FakeGuest()
        let options = VsockOptions(guestCID: 4, path: guest.path)
        #expect(throws: VsockError.listener(.inUse(path: guest.path))) {
            try VsockDevice(loop: guest.loop, options: options, logger: Logger(label: "test"))
        }
    }

    @Test("removes its socket when it is closed")
    func removesSocket() throws {
        let guest = try FakeGuest()
        #expect(exists(guest.path))
        guest.device.close()
        #expect(!exists(guest.path))
    }

    @Test("ends every connection when the driver goes, and serves the next one")
    func reset() throws {
        let guest = try FakeGuest()
        let service = try guest.service(at: 5000)
        for _ in 0..<Repetitions(100, whole: 1000).count {
            let first = try guest.connect(to: service, port: 5000, from: 1025)
            let second = try guest.accept(at: 22)
            guest.stop()
            guest.device.reset()
            #expect(first.host.read() == .endOfFile)
            #expect(second.host.read() == .endOfFile)
            #expect(guest.device.connectionCount == 0)
            guest.streams = []
            guest.forgetAccounts()
            try guest.start(at: guest.bases)
        }
    }

    @Test("keeps what the host has not read when the driver goes")
    func resetKeepsBytes() throws {
        let guest = try FakeGuest()
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        stream.write(testBytes(250_000))
        guest.settle()
        guest.stop()
        guest.device.reset()
        var arrived: [UInt8] = []
        while case .bytes(let bytes) = host.read() {
            arrived += bytes
            guest.settle()
        }
        expectSame(arrived, testBytes(250_000))
    }

    @Test("keeps its connections while the queues stop and go on", arguments: RingFormat.allCases)
    func stopAndContinue(_ format: RingFormat) throws {
        let guest = try FakeGuest(.init(format: format))
        let (stream, host) = try guest.accept(at: 22)
        let bytes = testBytes(1_000_000)
        let stopCount = Repetitions(200, whole: 1000).count
        let piece = bytes.count / stopCount
        stream.write(bytes)
        var unsent = bytes[...]
        var arrived: [UInt8] = []
        var stops = 0
        while arrived.count < bytes.count || stream.bytesRead.count < bytes.count {
            unsent = unsent.dropFirst(max(0, host.write(Array(unsent.prefix(piece)))))
            guest.turn()
            try guest.restart()
            stops += 1
            if case .bytes(let part) = host.read(piece) { arrived += part }
            guest.turn()
            stream.resume()
            try #require(stops < 10_000)
        }
        #expect(stops >= stopCount)
        expectSame(arrived, bytes)
        expectSame(stream.bytesRead, bytes)
    }

    @Test("serves many connections of both kinds at once, each with its own bytes")
    func manyConnections() throws {
        let guest = try FakeGuest()
        let service = try guest.service(at: 5000)
        var ends: [(stream: GuestStream, host: HostEnd)] = []
        let pairs = UInt32(Repetitions(150, whole: 500).count)
        let byteCount = Repetitions(8000, whole: 65_536).count
        for port in UInt32(1)...pairs {
            ends.append(try guest.connect(to: service, port: 5000, from: port))
            ends.append(try guest.accept(at: 10_000 + port))
        }
        for (index, end) in ends.enumerated() {
            end.stream.write(testBytes(byteCount, seed: index))
            #expect(end.host.write(testBytes(byteCount, seed: index)) == byteCount)
        }
        for _ in 0..<1000 where ends.contains(where: { $0.stream.unsentCount > 0 }) {
            guest.settle()
            for end in ends { end.stream.resume() }
        }
        guest.settle()
        for (index, end) in ends.enumerated() {
            // Each says what it heard, and hears itself.
            guard case .bytes(let heard) = end.host.read() else {
                Issue.record("nothing has come")
                continue
            }
            expectSame(heard, testBytes(byteCount, seed: index))
            expectSame(end.stream.takeRead(), testBytes(byteCount, seed: index))
            #expect(end.host.write(heard) == byteCount)
            guest.settle()
            expectSame(end.stream.takeRead(), heard)
            end.stream.close()
            guest.settle()
        }
        #expect(ends.allSatisfy { $0.stream.wasReset })
        #expect(guest.device.connectionCount == 0)
    }

    @Test("makes and ends thousands of connections and leaks no descriptor")
    func storm() throws {
        let guest = try FakeGuest()
        let service = try guest.service(at: 5000)
        let count = UInt32(Repetitions(1000, whole: 50_000).count)
        for round in 0..<count {
            let ends = [
                try guest.connect(to: service, port: 5000, from: 1025 + round % 7),
                try guest.accept(at: 22),
            ]
            ends[Int(round % 2)].host.close()
            ends[1 - Int(round % 2)].stream.close()
            guest.settle()
            #expect(ends.allSatisfy { $0.stream.state == .closed })
            guest.streams = []
        }
        #expect(guest.device.connectionCount == 0)
        #expect(guest.device.statistics.requestsFromGuest == UInt64(count))
        #expect(guest.device.statistics.requestsToGuest == UInt64(count))
    }

    @Test("asks for at most one signal for a batch of packets")
    func signals() throws {
        let guest = try FakeGuest(.init(eventIndex: false))
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        stream.packetSize = 64
        guest.signals.count = 0
        stream.write(testBytes(64 * 100))
        guest.turn()
        #expect(guest.signals.count == 1)
        withExtendedLifetime(host) {}
    }

    @Test("signals for credit updates alone a millisecond later, and for many at once")
    func creditSignals() throws {
        let guest = try FakeGuest(.init(eventIndex: false))
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        guest.signals.count = 0
        stream.send(Packet.creditUpdate)
        guest.settle()
        #expect(guest.chainsUnderWay == 0)
        #expect(guest.signals.count == 0)
        guest.advance(by: .milliseconds(1))
        #expect(guest.signals.count == 1)
        for _ in 0..<64 { stream.send(Packet.creditUpdate) }
        guest.turn()
        #expect(guest.signals.count == 2, "a quarter of the ring")
        withExtendedLifetime(host) {}
    }

    private func exists(_ path: String) -> Bool {
        // SAFETY: the path is passed as a C string for the length of the call.
        unsafe access(path, F_OK) == 0
    }
}
