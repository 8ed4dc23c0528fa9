// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Synchronization
import Testing
import Virtio

@testable import VirtioVsock

@Suite("A guest that attacks its rings")
struct ViolentGuestTests {
    @Test("is not served on the ring that it broke, keeps the other, and may start anew")
    func availableIndexJump() throws {
        let guest = try FakeGuest()
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        let ring = try #require(guest.transmitRing as? SplitDriver)
        ring.availableIndex &+= 40_000
        guest.device.driverNotified(queueAt: 1)
        for _ in 0..<3 { guest.turn() }
        #expect(guest.device.multiplexer.hostboundQueue?.breakage != nil)
        // Nothing leads back to a broken ring by itself.
        let packets = guest.device.statistics.packetsFromGuest
        for _ in 0..<100 { guest.turn() }
        #expect(guest.device.statistics.packetsFromGuest == packets)
        stream.readsAtOnce = false
        host.write("hello")
        guest.settle()
        #expect(stream.queue == Array("hello".utf8))
        try guest.startAnew()
        #expect(host.read() == .endOfFile)
        let next = try guest.connect(to: service, port: 5000, from: 1026)
        next.stream.write(Array("hello".utf8))
        guest.settle()
        #expect(next.host.readText() == "hello")
    }

    /// Headers that one packet may have while it is looked at.
    private func headers(_ stream: GuestStream) -> [[UInt8]] {
        var packets: [Packet] = []
        for operation in [5, 5, 5, 1, 2, 3, 4, 6, 7, 0, 9] as [UInt16] {
            var packet = stream.packet(operation)
            packet.flags = operation == 4 ? 3 : 1
            for length in [0, 100, 101, 0xffff_ffff] as [UInt32] {
                packet.claimedLength = length
                packets.append(packet)
            }
            packet.sourceCID = 9
            packets.append(packet)
            packet.sourceCID = 3
            packet.type = 2
            packets.append(packet)
            packet.destinationPort = 7
            packets.append(packet)
        }
        return packets.map(\.header)
    }

    /// Whether the guest has stopped writing; shared with its other processor.
    private final class Flag: Sendable {
        let isSet = Atomic(false)
    }

    @Test("may rewrite a header while it is looked at", arguments: RingFormat.allCases)
    func rewrittenHeaders(_ format: RingFormat) throws {
        let guest = try FakeGuest(.init(format: format, checksPackets: false))
        let service = try guest.service(at: 5000)
        let first = try guest.connect(to: service, port: 5000, from: 1025)
        let (memory, headers, isOver) = (guest.memory, headers(first.stream), Flag())
        guest.streams = []
        let header = memory.segment(headers[0]).address
        let payload = memory.segment(byteCount: 100).address
        let processor = try startThread(name: "scribbler") {
            while !isOver.isSet.load(ordering: .relaxed) {
                for bytes in headers { memory.write(bytes, at: header) }
            }
        }
        var hosts = [first.host]
        for round in 0..<4000 {
            guest.offerRaw([
                RawDescriptor(address: header, length: 44, flags: RawDescriptor.next),
                RawDescriptor(address: payload, length: 100),
            ])
            if round % 7 == 0 { guest.settle() }
            if let host = try service.accept() { hosts.append(host) }
            if hosts.count > 8 { hosts.removeFirst() }
            if round % 50 == 0 { for host in hosts { _ = host.read() } }
        }
        isOver.isSet.store(true, ordering: .relaxed)
        joinThread(processor)
        guest.settle()
        #expect(guest.chainsUnderWay == 0)
        #expect(guest.device.multiplexer.hostboundQueue?.breakage == nil)
        #expect(guest.device.connectionCount <= 1)
        // Only what one connection may hold is waiting anywhere.
        for connection in guest.device.connections {
            #expect(connection.waitingByteCount <= 2 * guest.options.bufferByteCount)
        }
        hosts = []
        let bases = guest.bases
        guest.stop()
        guest.device.reset()
        try guest.start(at: bases)
        while try service.accept() != nil {}
        let next = try guest.connect(to: service, port: 5000, from: 40_000)
        next.stream.write(Array("hello".utf8))
        guest.settle()
        #expect(next.host.readText() == "hello")
    }
}
