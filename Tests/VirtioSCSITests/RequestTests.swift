// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Driver
import SCSI
import Stores
import Testing
import Virtio
import VirtioSCSI

@Suite("A request queue", .serialized)
struct RequestTests {
    static let read: [UInt8] = [0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0]
    static let write: [UInt8] = [0x2A, 0, 0, 0, 0, 5, 0, 0, 2, 0]

    @Test("reads and writes", arguments: RingFormat.allCases)
    func readAndWrite(format: RingFormat) throws {
        let guest = try SCSIGuest(format)
        let data = (0..<1024).map { UInt8(truncatingIfNeeded: $0 / 3) }
        let written = try #require(try guest.send(Self.write, out: [data]))
        #expect(written.response == 0 && written.status == 0 && written.residual == 0)
        #expect(written.usedLength == 108)
        #expect(guest.store[5] == Array(data[..<512]))
        let answer = try #require(try guest.send(Self.read, in: [1024]))
        #expect(answer.response == 0 && answer.status == 0 && answer.residual == 0)
        #expect(answer.usedLength == 108 + 1024)
        #expect(answer.data == data)
    }

    @Test("takes headers and data split anywhere", arguments: RingFormat.allCases)
    func framing(format: RingFormat) throws {
        let guest = try SCSIGuest(format)
        let data = (0..<1024).map { UInt8(truncatingIfNeeded: $0 / 5) }
        for cut in [1, 8, 16, 19, 50, 51, 52, 100, 600] {
            let whole = SCSIGuest.header(Self.write) + data
            guest.offer(
                Array(whole[..<cut]), out: [Array(whole[cut...])],
                response: [min(cut, 107), 108 - min(cut, 107)])
            for _ in 0..<4 { try guest.turn() }
            let answers = try guest.reap()
            #expect(answers.first?.response == 0)
            #expect(guest.store[6] == Array(data[512...]))
            guest.store[6] = [UInt8](repeating: 0, count: 512)
        }
        guest.store[6] = Array(data[512...])
        for cut in [1, 11, 12, 13, 107, 108, 109, 120, 700] {
            guest.offer(
                SCSIGuest.header(Self.read), in: [108 + 1024 - cut], response: [cut])
            for _ in 0..<4 { try guest.turn() }
            let answer = try #require(try guest.reap().first)
            #expect(answer.usedLength == 108 + 1024)
            #expect(answer.data == data)
        }
    }

    @Test("takes one byte a descriptor")
    func bytewise() throws {
        let guest = try SCSIGuest(.split, ringSize: 1024)
        let header = SCSIGuest.header([0x12, 0, 0, 0, 36, 0])
        guest.offer(
            [header[0]], out: header.dropFirst().map { [$0] }, in: Array(repeating: 1, count: 36),
            response: Array(repeating: 1, count: 108))
        for _ in 0..<4 { try guest.turn() }
        let answer = try #require(try guest.reap().first)
        #expect(answer.usedLength == 144)
        #expect(Array(answer.data[8..<16]) == Array("VHOSTD  ".utf8))
    }

    @Test("takes 1024 segments of data")
    func manySegments() throws {
        let guest = try SCSIGuest(.split, ringSize: 2048)
        let segments = (0..<1024).map { [UInt8](repeating: UInt8($0 & 0xFF), count: 512) }
        let cdb: [UInt8] = [0x2A, 0, 0, 0, 0, 0, 0, 4, 0, 0]
        let answer = try #require(try guest.send(cdb, out: segments))
        #expect(answer.response == 0 && answer.status == 0)
        #expect(guest.store[1023] == segments[1023])
    }

    @Test("answers an absent target BAD TARGET at once", arguments: [1, 255])
    func absentTarget(target: UInt8) throws {
        let guest = try SCSIGuest()
        let answer = try #require(
            try guest.send([0x12, 0, 0, 0, 36, 0], in: [36], lun: [1, target, 0, 0, 0, 0, 0, 0]))
        #expect(answer.response == 3 && answer.residual == 36 && answer.usedLength == 108)
    }

    @Test(
        "finds a unit by every form of its address",
        arguments: [[1, 0, 0, 0], [1, 0, 0x40, 0]] as [[UInt8]])
    func addressForms(start: [UInt8]) throws {
        let guest = try SCSIGuest()
        let lun = start + [9, 9, 9, 9]
        let answer = try #require(try guest.send([0x12, 0, 0, 0, 36, 0], in: [36], lun: lun))
        #expect(answer.response == 0 && answer.data[0] == 0)
    }

    @Test("answers the REPORT LUNS well-known unit")
    func wellKnown() throws {
        let guest = try SCSIGuest()
        for lun in [[0xC1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 0xC1, 1, 0, 0, 0, 0]] as [[UInt8]] {
            let cdb: [UInt8] = [0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
            let answer = try #require(try guest.send(cdb, in: [256], lun: lun))
            #expect(answer.response == 0 && answer.usedLength == 108 + 16)
            #expect(Array(answer.data[..<16]) == [0, 0, 0, 8] + [UInt8](repeating: 0, count: 12))
        }
    }

    @Test("writes sense data, cut off at sense_size")
    func sense() throws {
        let guest = try SCSIGuest()
        let answer = try #require(try guest.send([0xFF, 0, 0, 0, 0, 0]))
        #expect(answer.status == 2 && answer.senseLength == 18 && answer.usedLength == 108)
        #expect([answer.sense[2], answer.sense[12], answer.sense[13]] == [5, 0x20, 0])
        #expect(guest.device.writeConfiguration([8, 0, 0, 0], at: 20))
        guest.offer(SCSIGuest.header([0xFF, 0, 0, 0, 0, 0]), response: [20])
        try guest.turn()
        let short = try #require(try guest.reap(senseByteCount: 8).first)
        #expect(short.senseLength == 8 && short.usedLength == 20)
    }

    @Test("honours cdb_size")
    func cdbSize() throws {
        let guest = try SCSIGuest()
        #expect(guest.device.writeConfiguration([16, 0, 0, 0], at: 24))
        guest.offer(
            SCSIGuest.header(Self.write, cdbByteCount: 16), out: [Array(repeating: 7, count: 1024)])
        for _ in 0..<4 { try guest.turn() }
        #expect(try guest.reap().first?.response == 0)
        #expect(guest.store[5] == Array(repeating: 7, count: 512))
    }

    @Test("answers data in both directions, and a header cut off, with FAILURE")
    func failure() throws {
        let guest = try SCSIGuest()
        guest.offer(SCSIGuest.header(Self.read), out: [[0]], in: [1024])
        guest.offer(Array(SCSIGuest.header(Self.read)[..<50]), in: [1024])
        try guest.turn()
        let answers = try guest.reap()
        #expect(answers.map(\.response) == [9, 9])
        #expect(answers.map(\.usedLength) == [108, 108])
    }

    @Test(
        "answers FAILURE when a part of the data is not in shared memory, and goes on",
        arguments: RingFormat.allCases)
    func outsideMemory(format: RingFormat) throws {
        let guest = try SCSIGuest(format)
        let before = guest.store[5]
        let nowhere = Segment(at: 0x7fff_ffff_0000, byteCount: 512)
        func header(_ cdb: [UInt8]) -> Segment { guest.memory.segment(SCSIGuest.header(cdb)) }
        func room(_ byteCount: Int) -> Segment { guest.memory.segment(byteCount: byteCount) }
        let chains = [
            Chain(readable: [header(Self.write), room(512), nowhere], writable: [room(108)]),
            Chain(readable: [header(Self.read)], writable: [room(108), nowhere, room(512)]),
            Chain(readable: [nowhere], writable: [room(108)]),
        ]
        for chain in chains { guest.rings[2].offer(chain) }
        guest.device.driverNotified(queueAt: 2)
        try guest.turn()
        let used = try guest.rings[2].reapAll()
        #expect(used.map(\.writtenLength) == [108, 108, 108])
        #expect(used.map { guest.memory.read([$0.chain.writable[0]])[11] } == [9, 9, 9])
        #expect(guest.store[5] == before)
        #expect(try guest.send(Self.read, in: [1024])?.response == 0)
    }

    @Test("is broken by a request without room for its response, alone")
    func broken() throws {
        let guest = try SCSIGuest(requestQueues: 2)
        guest.offer(SCSIGuest.header(Self.read), response: [107])
        guest.offer(SCSIGuest.header(Self.read), in: [1024])
        for _ in 0..<4 { try guest.turn() }
        #expect(try guest.rings[2].reapAll().map(\.writtenLength) == [0])
        #expect(try guest.send(Self.read, in: [1024], queue: 3)?.response == 0)
    }

    @Test("says OVERRUN when the buffer is shorter than the CDB asks for")
    func overrun() throws {
        let guest = try SCSIGuest()
        let read = try #require(try guest.send(Self.read, in: [512]))
        #expect(read.response == 1 && read.residual == 512 && read.usedLength == 108 + 512)
        let write = try #require(try guest.send(Self.write, out: [[1]]))
        #expect(write.response == 1 && write.residual == 1023 && write.usedLength == 108)
        #expect(guest.store.allocatedBlockCount == 0)
    }

    @Test("publishes what ended in one turn with one signal")
    func oneSignal() throws {
        let guest = try SCSIGuest()
        guest.rings[2].requestSignals()
        let before = guest.signals.count
        for tag in 0..<32 {
            guest.offer(SCSIGuest.header(Self.read), in: [1024], tag: tag)
        }
        try guest.turn()
        #expect(try guest.reap().count == 32)
        #expect(guest.signals.count == before + 1)
    }

    @Test("goes on when more requests are there than places", arguments: RingFormat.allCases)
    func backPressure(format: RingFormat) throws {
        let guest = try SCSIGuest(format, ringSize: 256, commandLimit: 64)
        for tag in 0..<200 { guest.offer(SCSIGuest.header(Self.read), in: [1024], tag: tag) }
        for _ in 0..<8 { try guest.turn() }
        #expect(try guest.reap().map(\.tag).sorted() == Array(0..<200))
    }

    @Test("is stopped: takes no more, and gives back what is under way")
    func stop() throws {
        let guest = try SCSIGuest()
        guest.store.isHolding = true
        guest.offer(SCSIGuest.header(Self.read), in: [1024], tag: 1)
        guest.device.stopQueue(at: 2)
        guest.offer(SCSIGuest.header(Self.read), in: [1024], tag: 2)
        var isDrained = false
        guest.queues[2].whenDrained { isDrained = true }
        try guest.turn()
        #expect(!isDrained)
        guest.store.endAll()
        try guest.turn()
        #expect(isDrained)
        #expect(try guest.reap().map(\.tag) == [1])
    }
}
