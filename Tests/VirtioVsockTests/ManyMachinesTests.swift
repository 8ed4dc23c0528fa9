// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing
import Virtio

@testable import VirtioVsock

/// The devices of 64 machines on one loop: closer together than a service ever has them.
@Suite("64 machines in one process")
struct ManyMachinesTests {
    private static let machineCount = 64

    /// One of the machines with its connection.
    private struct Machine {
        let guest: FakeGuest
        let stream: GuestStream
        let host: HostEnd
    }

    private func machines(_ count: Int = machineCount) throws -> [Machine] {
        let clock = TurnedClock()
        let loop = try EventLoop(clock: clock)
        return try (0..<count).map { index in
            let guest = try FakeGuest(
                .init(
                    cid: UInt64(3 + index), checksPackets: index > 0, memoryByteCount: 8 << 20,
                    shared: (loop, clock)))
            let service = try guest.service(at: 5000)
            let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
            return Machine(guest: guest, stream: stream, host: host)
        }
    }

    /// Turns of the loop until every machine has what it was sent, and its host, too.
    private func exchange(
        _ machines: ArraySlice<Machine>, beside disturb: () -> Void
    ) throws -> Int {
        for (index, machine) in machines.enumerated() {
            machine.stream.write(testBytes(40_000, seed: 1 + index))
            machine.host.write(testBytes(40_000, seed: 101 + index))
        }
        var arrived = [[UInt8]](repeating: [], count: machines.count)
        var turns = 0
        while zip(machines, arrived).contains(where: {
            $0.stream.bytesRead.count < 40_000 || $1.count < 40_000
        }) {
            disturb()
            for (index, machine) in machines.enumerated() {
                machine.guest.turn()
                if case .bytes(let bytes) = machine.host.read() { arrived[index] += bytes }
            }
            turns += 1
            try #require(turns < 1000, "everybody goes on")
        }
        for (index, machine) in machines.enumerated() {
            expectSame(arrived[index], testBytes(40_000, seed: 1 + index))
            expectSame(machine.stream.bytesRead, testBytes(40_000, seed: 101 + index))
        }
        return turns
    }

    /// A ring full of packets that provoke answers, break rules or are none at all.
    private func attack(_ guest: FakeGuest, _ round: Int) {
        for index in 0..<200 {
            var packet = Packet()
            packet.sourcePort = UInt32(2000 + index)
            packet.destinationPort = 5000
            packet.operation = [1, 5, 3, 7, 8, 65_535][(index + round) % 6]
            packet.type = index % 7 == 0 ? 9 : 1
            packet.sourceCID = guest.cid
            packet.bufferAllocation = 65_536
            if index % 5 == 0 { packet.payload = testBytes(3000) }
            if index % 11 == 0 { packet.claimedLength = .max }
            guest.send(packet)
        }
        guest.turn()
    }

    @Test("each have their own bytes, and lose no turn to one that breaks every rule")
    func misbehaving() throws {
        let machines = try machines()
        let turns = try exchange(machines[1...], beside: {})
        let others = try self.machines()
        others[0].guest.postsBuffers = false
        var round = 0
        let disturbed = try exchange(others[1...]) {
            attack(others[0].guest, round)
            round += 1
        }
        #expect(disturbed <= turns + 1)
        #expect(others[0].guest.device.statistics.packetsFromGuest > 0)
        // Its own service takes nothing more from it; it goes as every guest does.
        withExtendedLifetime(machines) {}
    }

    @Test("cost nothing while they are idle")
    func idle() throws {
        let machines = try machines()
        let guests = machines.map(\.guest)
        for guest in guests { guest.settle() }
        let signals = guests.map(\.signals.count)
        let packets = guests.map(\.device.statistics.packetsToGuest)
        for _ in 0..<100 {
            guests[0].clock.advance(by: .seconds(60))
            for _ in 0..<3 { guests[0].turn() }
        }
        #expect(guests.map(\.signals.count) == signals)
        #expect(guests.map(\.device.statistics.packetsToGuest) == packets)
        #expect(guests.allSatisfy { $0.device.connectionCount == 1 })
    }

    @Test("can lose one of them at any time: the others go on")
    func loss() throws {
        var machines = try machines()
        let lost = machines.remove(at: 7)
        lost.guest.stop()
        lost.guest.device.reset()
        lost.guest.streams = []
        #expect(lost.host.read() == .endOfFile)
        lost.guest.device.close()
        #expect(try exchange(machines[...], beside: {}) > 0)
    }
}
