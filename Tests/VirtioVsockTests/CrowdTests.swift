// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("A crowd of connections")
struct CrowdTests {
    private func connected(
        _ guest: FakeGuest, _ count: UInt32
    ) throws -> [(stream: GuestStream, host: HostEnd)] {
        let service = try guest.service(at: 5000)
        return try (0..<count).map { try guest.connect(to: service, port: 5000, from: 2000 + $0) }
    }

    @Test("leaves a bulk stream no more than its turn: pings are answered while it goes on")
    func pings() throws {
        let guest = try FakeGuest()
        var ends = try connected(guest, 101)
        let bulk = ends.removeLast()
        let piece = testBytes(200_000)
        var answered = 0
        for round in 0..<50 {
            bulk.host.write(piece)
            bulk.stream.write(testBytes(60_000))
            for end in ends { end.host.write("ping") }
            // A ping has to come through in the turns that one window of the bulk takes.
            for _ in 0..<4 { guest.turn() }
            for end in ends where end.stream.bytesRead.count == 4 * (round + 1) { answered += 1 }
            for end in ends { end.stream.write(Array("pong".utf8)) }
            for _ in 0..<4 { guest.turn() }
            for end in ends { #expect(end.host.readText() == "pong") }
            while case .bytes = bulk.host.read() { guest.settle() }
        }
        #expect(answered == 50 * 100)
        #expect(bulk.stream.bytesRead.count > 4_000_000, "the bulk goes on as well")
    }

    @Test("shares the way evenly among bulk streams")
    func bulks() throws {
        let guest = try FakeGuest()
        let ends = try connected(guest, 8)
        for _ in 0..<200 {
            for end in ends { end.host.write(testBytes(200_000)) }
            guest.turn()
        }
        let counts = ends.map(\.stream.bytesRead.count)
        let mean = counts.reduce(0, +) / counts.count
        #expect(mean > 1_000_000)
        for count in counts { #expect(abs(count - mean) <= mean / 5) }
    }

    @Test("costs nothing while it is idle: the loop has nothing to do, and no timer is set")
    func idle() throws {
        let guest = try FakeGuest(.init(ringSize: 1024))
        let ends = try connected(guest, 500)
        guest.settle()
        let signals = guest.signals.count
        let packets = guest.device.statistics.packetsToGuest
        // Longer than every patience that the device has.
        for _ in 0..<100 { guest.advance(by: .seconds(60)) }
        #expect(guest.signals.count == signals)
        #expect(guest.device.statistics.packetsToGuest == packets)
        #expect(guest.device.connectionCount == 500)
        for end in ends { end.stream.close() }
        guest.settle()
        #expect(guest.device.connectionCount == 0)
        #expect(guest.chainsUnderWay == 0)
    }

    @Test("is counted, connection by connection")
    func statistics() throws {
        let guest = try FakeGuest()
        let ends = try connected(guest, 3)
        for (index, end) in ends.enumerated() {
            end.stream.write(testBytes(100 * (index + 1)))
            end.host.write(testBytes(10_000))
        }
        guest.settle()
        let connections = guest.device.connections.sorted {
            $0.guestPort.rawValue < $1.guestPort.rawValue
        }
        #expect(connections.map(\.guestPort.rawValue) == [2000, 2001, 2002])
        #expect(connections.map(\.traffic.bytesFromGuest) == [100, 200, 300])
        #expect(connections.allSatisfy { $0.traffic.bytesToGuest == 10_000 })
        // Receive buffers hold 3732 bytes of payload: RESPONSE, and three packets.
        #expect(connections.allSatisfy { $0.traffic.packetsToGuest == 4 })
        #expect(connections.allSatisfy { $0.peer.rawValue == 2 && $0.peerPort.rawValue == 5000 })
        #expect(guest.device.statistics.bytesFromGuest == 600)
    }
}
