// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Driver
import SCSI
import Stores
import Testing
import VirtioSCSI

@Suite("The bounds of a virtio-scsi device", .serialized)
struct BoundsTests {
    static let read: [UInt8] = [0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0]
    static let write: [UInt8] = [0x2A, 0, 0, 0, 0, 5, 0, 0, 2, 0]
    static let testUnitReady: [UInt8] = [0, 0, 0, 0, 0, 0]

    @Test("are 254 request queues, of which the driver sets up as many as it likes")
    func requestQueues() throws {
        let guest = try SCSIGuest(requestQueues: 254, ringSize: 8)
        #expect(guest.device.queueCount == 256)
        #expect(Array(guest.device.readConfiguration()[..<4]) == [254, 0, 0, 0])
        for queue in [2, 100, 255] {
            #expect(try guest.send(Self.testUnitReady, queue: queue)?.response == 0)
        }
        for queue in 3..<255 { guest.device.stopQueue(at: queue) }
        #expect(try guest.send(Self.testUnitReady, queue: 255)?.status == 0)
        guest.device.driverNotified(queueAt: 256)
        // Task management looks at every queue for older requests.
        #expect(try guest.control(SCSIGuest.taskManagement(5)) == [0])
    }

    @Test("are 256 targets of 16384 logical units")
    func places() throws {
        let guest = try SCSIGuest()
        let last = try #require(LUN(16383))
        #expect(LUN(16384) == nil)
        for target: UInt8 in [0, 255] {
            guest.bus.attach(guest.disk, target: target, lun: last)
            let lun: [UInt8] = [1, target, 0x7F, 0xFF, 0, 0, 0, 0]
            let first = try #require(try guest.send(Self.testUnitReady, lun: lun))
            #expect([first.sense[2], first.sense[12]] == [6, 0x29])
            #expect(try guest.send(Self.testUnitReady, lun: lun)?.status == 0)
        }
        let cdb: [UInt8] = [0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
        let luns = try #require(try guest.send(cdb, in: [256]))
        #expect(Array(luns.data[..<4]) == [0, 0, 0, 16])
        #expect(Array(luns.data[16..<18]) == [0x7F, 0xFF])
        let far = try #require(
            try guest.send(cdb, in: [256], lun: [1, 255, 0xC1, 1, 0, 0, 0, 0]))
        #expect(Array(far.data[..<10]) == [0, 0, 0, 8, 0, 0, 0, 0, 0x7F, 0xFF])
    }

    @Test("are 1024 segments, each of any length", arguments: RingFormat.allCases)
    func segments(format: RingFormat) throws {
        let guest = try SCSIGuest(format, ringSize: 2048)
        // 1 to 511 bytes in turn: 1024 pieces of 256 KiB together.
        let lengths = (0..<512).flatMap { [$0 % 511 + 1, 511 - $0 % 511] }
        #expect(lengths.reduce(0, +) == 512 * 512)
        var start = 0
        let data = (0..<512 * 512).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }
        let pieces = lengths.map { length -> [UInt8] in
            defer { start += length }
            return Array(data[start..<start + length])
        }
        let written = try guest.send([0x2A, 0, 0, 0, 0, 0, 0, 2, 0, 0], out: pieces)
        #expect(written?.response == 0 && written?.status == 0)
        let read = try #require(
            try guest.send([0x28, 0, 0, 0, 0, 0, 0, 2, 0, 0], in: lengths.reversed()))
        #expect(read.data == data)
    }

    @Test("end a unit's commands before the driver hears that it has gone")
    func unplug() throws {
        let guest = try SCSIGuest()
        let lun = try #require(LUN(0))
        guest.bus.attach(guest.disk, target: 1, lun: lun)
        guest.rings[1].offer(writable: [16])
        guest.rings[1].offer(writable: [16])
        guest.device.driverNotified(queueAt: 1)
        guest.store.isHolding = true
        let address: [UInt8] = [1, 1, 0, 0, 0, 0, 0, 0]
        guest.bus.detach(target: 1, lun: lun)
        #expect(try guest.send(Self.testUnitReady, lun: address)?.response == 3)
        try guest.turn()
        let events = try guest.rings[1].reapAll().map { guest.rings[1].writtenBytes(of: $0) }
        #expect(
            events == [
                [1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
                [1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0],
            ])
    }

    @Test("let a command under way end when its unit goes, as TARGET FAILURE")
    func unplugUnderLoad() throws {
        let guest = try SCSIGuest()
        let lun = try #require(LUN(3))
        let other = Disk(store: guest.store, identity: DiskIdentity(stableFrom: "other"))
        guest.bus.attach(other, target: 0, lun: lun)
        let address: [UInt8] = [1, 0, 0, 3, 0, 0, 0, 0]
        _ = try guest.send(Self.testUnitReady, lun: address)
        guest.store.isHolding = true
        guest.offer(SCSIGuest.header(Self.read, lun: address), in: [1024], tag: 1)
        guest.bus.detach(target: 0, lun: lun)
        #expect(try guest.reap().isEmpty)
        guest.store.endAll()
        try guest.turn()
        #expect(try guest.reap().map(\.response) == [7])
        guest.store.isHolding = false
        // The others of the target are told, and the number answers as one that nobody has.
        let next = try #require(try guest.send(Self.testUnitReady))
        #expect([next.sense[2], next.sense[12], next.sense[13]] == [6, 0x3F, 0x0E])
        let inquiry = try guest.send([0x12, 0, 0, 0, 36, 0], in: [36], lun: address)
        #expect(inquiry?.data[0] == 0x7F)
        let gone = try #require(try guest.send(Self.testUnitReady, lun: address))
        #expect([gone.sense[2], gone.sense[12], gone.sense[13]] == [5, 0x25, 0])
    }
}
