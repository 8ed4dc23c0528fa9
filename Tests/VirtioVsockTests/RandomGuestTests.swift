// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

/// With `VHOSTD_FUZZ_SECONDS` set, guests follow each other for so long, each with a seed of its own.
@Suite("A guest that does anything at all")
struct RandomGuestTests {
    private func one<Value>(of values: [Value], _ random: inout SeededGenerator) -> Value {
        values[Int.random(in: values.indices, using: &random)]
    }

    /// Packets that are legal in parts, so that they reach far into the device.
    private func packet(_ random: inout SeededGenerator, _ ports: [UInt32]) -> Packet {
        var packet = Packet()
        if Int.random(in: 0..<40, using: &random) == 0 { packet.sourceCID = 9 }
        if Int.random(in: 0..<20, using: &random) == 0 {
            packet.destinationCID = one(of: [0, 1, 3, 5, 0xffff_ffff, 1 << 40], &random)
        }
        packet.sourcePort = UInt32.random(in: 1..<12, using: &random)
        packet.destinationPort = ports.randomElement(using: &random) ?? 5000
        packet.type = one(of: [1, 1, 1, 1, 2, 2, 0, 9], &random)
        packet.operation = one(of: [1, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7, 0, 8], &random)
        packet.flags = UInt32.random(in: 0..<8, using: &random)
        packet.bufferAllocation = one(of: [0, 1, 128, 4096, 65_536, 262_144, .max], &random)
        packet.forwardCount = UInt32.random(in: 0..<4, using: &random)
        if packet.operation == Packet.readWrite {
            packet.payload = testBytes(
                one(of: [0, 1, 64, 4000, 60_000], &random))
        }
        if Int.random(in: 0..<30, using: &random) == 0 {
            packet.claimedLength = UInt32.random(in: 0...UInt32.max, using: &random)
        }
        return packet
    }

    @Test(
        "gets every chain back, and hurts nobody else", arguments: RingFormat.allCases,
        0..<8 as Range<UInt64>)
    func anything(_ format: RingFormat, _ seed: UInt64) throws {
        try live(format, seed)
    }

    @Test("finds nothing more in the time that it is given")
    func longTime() throws {
        let text = ProcessEnvironment.variable("VHOSTD_FUZZ_SECONDS")
        let time = Duration.seconds(text.flatMap { Int($0) } ?? 0)
        let first = text == nil ? 8 : UInt64.random(in: 0..<1 << 40)
        let end = ContinuousClock.now + time
        var seed = first
        repeat {
            // The last line tells which one it was.
            if text != nil { print("seed \(seed)") }
            for format in RingFormat.allCases { try live(format, seed) }
            seed += 1
        } while ContinuousClock.now < end
        if text != nil { print("\(2 * (seed - first)) guests") }
    }

    /// One guest with its programs on the host.
    private struct Life {
        let guest: FakeGuest
        let listeners: [HostService]
        var hosts: [HostEnd] = []
        var clients: [HostEnd] = []
        /// Times that the driver may still break a ring: what is in it then is lost to the test's memory.
        var breakagesLeft = 5
    }

    private func live(_ format: RingFormat, _ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let isSmall = seed % 4 == 3
        let guest = try FakeGuest(
            .init(
                format: format, eventIndex: seed % 3 != 0, checksPackets: false,
                hasEventQueue: seed % 2 == 1, rest: seed % 2 == 0 ? .zero : .microseconds(80),
                memoryByteCount: 256 << 20,
                adjust: {
                    if isSmall { $0.connectionLimit = 8 }
                    if seed % 5 == 4 { $0.waitForGuest = .seconds(1) }
                }))
        var life = Life(
            guest: guest,
            listeners: [
                try guest.service(at: 5000), try guest.service(at: 5001, kind: .sequencedPacket),
                try guest.service(at: 5002, backlog: 0),
            ])
        for step in 0..<600 {
            try send(&life, &random)
            try actOnHost(&life, &random)
            try attack(&life, &random)
            if step % 16 == 0 { checkBounds(guest) }
        }
        try endLife(&life)
    }

    private func send(_ life: inout Life, _ random: inout SeededGenerator) throws {
        let guest = life.guest
        var ports: [UInt32] = [5000, 5001, 5002, 7]
        ports += guest.takeReceived().suffix(4).map(\.sourcePort)
        let packet = packet(&random, ports)
        let bytes = packet.header + packet.payload
        let cut = Int.random(in: 0...bytes.count, using: &random)
        let segments = [
            guest.memory.segment(bytes.prefix(cut)), guest.memory.segment(bytes.dropFirst(cut)),
        ]
        for empty in segments where empty.byteCount == 0 { guest.memory.free(empty.address) }
        let isIndirect = Int.random(in: 0..<4, using: &random) == 0
        guest.offer(
            Chain(
                readable: segments.filter { $0.byteCount > 0 },
                placement: isIndirect ? .indirect : .direct))
    }

    private func actOnHost(_ life: inout Life, _ random: inout SeededGenerator) throws {
        let guest = life.guest
        for listener in life.listeners {
            if let host = try listener.accept() { life.hosts.append(host) }
        }
        let anybody = (life.hosts + life.clients).randomElement(using: &random)
        switch Int.random(in: 0..<10, using: &random) {
        case 0: anybody?.write(testBytes(one(of: [1, 5000, 100_000], &random)))
        case 1: _ = anybody?.read(one(of: [1, 1 << 20], &random))
        case 2 where life.hosts.count > 4:
            life.hosts.remove(at: Int.random(in: life.hosts.indices, using: &random)).close()
        case 3:
            let client = try guest.client()
            let port = UInt32.random(in: 1..<12, using: &random)
            client.write(
                one(of: ["CONNECT \(port)\n", "CONNECT \(port)\nhello", "CONN", ""], &random))
            life.clients.append(client)
        case 4: guest.advance(by: one(of: [.milliseconds(300), .microseconds(80)], &random))
        case 5: anybody?.shutDown(one(of: [.reading, .writing, .both], &random))
        case 6 where life.clients.count > 20: life.clients.removeFirst().close()
        default: guest.turn()
        }
    }

    /// What the driver does to its rings.
    private func attack(_ life: inout Life, _ random: inout SeededGenerator) throws {
        let guest = life.guest
        switch Int.random(in: 0..<60, using: &random) {
        case 0: guest.postsBuffers.toggle()
        case 1: guest.postBuffer([one(of: [1, 43, 44, 45, 3776, 70_000], &random)])
        case 2: guest.postChain(Chain(readable: [guest.memory.segment(byteCount: 60)]))
        case 3: try guest.restart()
        case 4,
            5 where life.breakagesLeft > 0:
            offerRaw(guest, &random)
        case 6 where life.breakagesLeft > 0:
            (guest.transmitRing as? SplitDriver)?.availableIndex &+= 40_000
            guest.device.driverNotified(queueAt: 1)
        case 7:
            let chain = Chain(writable: [guest.memory.segment(byteCount: 4)])
            _ = guest.eventRing.add(chain, tag: 0)
            if guest.eventRing.publish() { guest.device.driverNotified(queueAt: 2) }
        default: break
        }
        for _ in 0..<2 { guest.turn() }
        if guest.isBroken {
            life.breakagesLeft -= 1
            try guest.startAnew()
        }
    }

    /// Descriptors that make no sense, mostly.
    private func offerRaw(_ guest: FakeGuest, _ random: inout SeededGenerator) {
        // A packed chain says itself which buffer it is: the driver would not know its own again.
        let isPacked = guest.transmitRing.format == .packed
        let count = isPacked ? 1 : Int.random(in: 1..<4, using: &random)
        guest.offerRaw(
            (0..<count).map { _ in
                RawDescriptor(
                    address: one(
                        of: [0x10_0000, 0x20_0000, 0, 0xffff_ffff_0000, .max, 0x1010_0000], &random),
                    length: one(of: [0, 1, 16, 44, 48, 4096, 0xffff_ffff], &random),
                    flags: one(of: isPacked ? [0, 2, 4] : [0, 1, 1, 2, 3, 4, 5], &random),
                    link: isPacked ? nil : one(of: [nil, nil, nil, 0, 255, 65_535], &random))
            })
    }

    /// What no guest can exceed.
    private func checkBounds(_ guest: FakeGuest) {
        let device = guest.device
        #expect(device.connectionCount <= guest.options.connectionLimit + 1)
        let most = 2 * guest.options.bufferByteCount
        let waiting = device.connections.map(\.waitingByteCount).max() ?? 0
        #expect(waiting <= most, "no more is kept than was granted, twice")
    }

    private func endLife(_ life: inout Life) throws {
        let guest = life.guest
        guest.postsBuffers = true
        for _ in 0..<64 { guest.postBuffer([3776]) }
        guest.settle()
        // Packets wait for a driver that does not look at its events, for a second.
        guest.advance(by: .seconds(2))
        for _ in 0..<3 { guest.advance(by: .microseconds(80)) }
        #expect(guest.chainsUnderWay == 0)
        life.hosts = []
        life.clients = []
        for listener in life.listeners { while try listener.accept() != nil {} }
        for _ in 0..<10 { guest.advance(by: .seconds(10)) }
        checkLeft(guest)
        let bases = guest.bases
        guest.stop()
        guest.device.reset()
        #expect(guest.device.connectionCount == 0)
        try guest.start(at: bases)
        guest.settle()
        guest.advance(by: .seconds(2))
        _ = guest.takeReceived()
        // Whatever it has done, it may connect again.
        let again = try guest.connect(to: life.listeners[0], port: 5000, from: 40_000)
        again.stream.write(Array("hello".utf8))
        guest.settle()
        #expect(again.host.readText() == "hello")
    }

    /// What the host has left stays for a guest that grants nothing, and for no other.
    private func checkLeft(_ guest: FakeGuest) {
        let table = guest.device.multiplexer.table
        for slot in table.indices where table.slots[slot].connection.phase != .free {
            let connection = table.slots[slot].connection
            #expect(connection.phase == .established)
            let (bytes, packets) = (
                connection.guestbound.available, connection.guestbound.availablePackets
            )
            #expect(bytes == 0 || packets == 0)
        }
    }
}
