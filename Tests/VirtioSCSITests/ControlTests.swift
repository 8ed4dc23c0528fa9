// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Driver
import SCSI
import Stores
import Testing
import VirtioSCSI

@Suite("The control queue", .serialized)
struct ControlTests {
    static let read: [UInt8] = [0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0]

    @Test("answers every subtype of task management (virtio 1.3 §5.6.6.2)")
    func subtypes() throws {
        let guest = try SCSIGuest()
        let expected: [UInt8] = [0, 0, 11, 0, 0, 0, 0, 0, 11]
        for (subtype, response) in expected.enumerated() {
            let request = SCSIGuest.taskManagement(UInt8(subtype))
            #expect(try guest.control(request) == [response], "subtype \(subtype)")
        }
        let absentUnit = SCSIGuest.taskManagement(5, lun: [1, 0, 0, 9, 0, 0, 0, 0])
        #expect(try guest.control(absentUnit) == [12])
        let absentTarget = SCSIGuest.taskManagement(5, lun: [1, 9, 0, 0, 0, 0, 0, 0])
        #expect(try guest.control(absentTarget) == [3])
    }

    @Test("ends an aborted command before the function, and nothing is written after")
    func abortOrder() throws {
        let guest = try SCSIGuest()
        guest.store.isHolding = true
        guest.offer(SCSIGuest.header(Self.read, tag: 5), in: [1024], tag: 1)
        #expect(try guest.control(SCSIGuest.taskManagement(0, tag: 5)) == nil)
        #expect(try guest.reap().isEmpty)
        guest.store.endAll()
        try guest.turn()
        let answer = try #require(try guest.reap().first)
        #expect(answer.response == 2 && answer.usedLength == 108)
        #expect(try guest.endedControl() == [0])
        let before = guest.memory.snapshot()
        for _ in 0..<4 { try guest.turn() }
        #expect(guest.memory.pagesChanged(since: before).isEmpty)
    }

    @Test("resets a unit: its commands end RESET, first")
    func reset() throws {
        let guest = try SCSIGuest()
        guest.store.isHolding = true
        for tag in 0..<3 { guest.offer(SCSIGuest.header(Self.read), in: [1024], tag: tag) }
        #expect(try guest.control(SCSIGuest.taskManagement(5)) == nil)
        guest.store.endAll()
        try guest.turn()
        #expect(try guest.reap().map(\.response) == [4, 4, 4])
        #expect(try guest.endedControl() == [0])
        guest.store.isHolding = false
        let next = try #require(try guest.send([0, 0, 0, 0, 0, 0]))
        #expect([next.sense[2], next.sense[12], next.sense[13]] == [6, 0x29, 3])
    }

    @Test("takes requests that were offered before the function")
    func olderRequests() throws {
        let guest = try SCSIGuest()
        guest.store.isHolding = true
        let memory = guest.memory
        let header = SCSIGuest.header(Self.read, tag: 5)
        // Offered, but the device has not been notified yet.
        guest.rings[2].offer(
            Chain(
                readable: [memory.segment(header)], writable: [memory.segment(byteCount: 1132)]))
        #expect(try guest.control(SCSIGuest.taskManagement(6, tag: 5)) == [10])
        guest.store.endAll()
        try guest.turn()
    }

    @Test("answers asynchronous notification requests: there are none")
    func notifications() throws {
        let guest = try SCSIGuest()
        for type: UInt8 in [1, 2] {
            let request: [UInt8] = [type, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0, 0, 0]
            #expect(try guest.control(request, room: 5) == [0, 0, 0, 0, 0])
        }
        #expect(try guest.control([9, 0, 0, 0, 0, 0, 0, 0]) == [9])
    }
}

@Suite("The event queue", .serialized)
struct EventTests {
    @Test("tells of units that come, go and change (virtio 1.3 §5.6.6.3)")
    func events() throws {
        let guest = try SCSIGuest()
        for _ in 0..<4 { guest.rings[1].offer(writable: [16]) }
        guest.device.driverNotified(queueAt: 1)
        let other = Disk(store: guest.store, identity: DiskIdentity(stableFrom: "other"))
        let near = try #require(LUN(5))
        let far = try #require(LUN(300))
        guest.bus.attach(other, target: 2, lun: near)
        guest.bus.attach(other, target: 2, lun: far)
        guest.store.geometry.blockCount += 8
        guest.disk.refreshGeometry(on: guest.bus)
        guest.bus.detach(target: 2, lun: near)
        try guest.turn()
        let events = try guest.rings[1].reapAll().map { guest.rings[1].writtenBytes(of: $0) }
        #expect(
            events == [
                [1, 0, 0, 0, 1, 2, 0, 5, 0, 0, 0, 0, 1, 0, 0, 0],
                [1, 0, 0, 0, 1, 2, 0x41, 0x2C, 0, 0, 0, 0, 1, 0, 0, 0],
                [3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x2A, 9, 0, 0],
                [1, 0, 0, 0, 1, 2, 0, 5, 0, 0, 0, 0, 2, 0, 0, 0],
            ])
    }

    @Test("says that events were missed when there was no buffer for too long")
    func missed() throws {
        let guest = try SCSIGuest()
        for _ in 0..<70 {
            guest.store.geometry.blockCount += 8
            guest.disk.refreshGeometry(on: guest.bus)
        }
        guest.rings[1].offer(writable: [16])
        guest.device.driverNotified(queueAt: 1)
        try guest.turn()
        let buffer = try #require(try guest.rings[1].reap())
        #expect(Array(guest.rings[1].writtenBytes(of: buffer)[..<4]) == [3, 0, 0, 0x80])
    }

    @Test("is silent when the driver did not negotiate it")
    func silent() throws {
        let guest = try SCSIGuest(features: 0)
        guest.rings[1].offer(writable: [16])
        guest.store.geometry.blockCount += 8
        guest.disk.refreshGeometry(on: guest.bus)
        try guest.turn()
        #expect(try guest.rings[1].reapAll().isEmpty)
    }
}

@Suite("The configuration space of a virtio-scsi device")
struct ConfigurationTests {
    static let expected: [UInt8] = [
        4, 0, 0, 0, 0xFE, 3, 0, 0, 0xFF, 0xFF, 0, 0, 128, 0, 0, 0, 16, 0, 0, 0,
        96, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0xFF, 0, 0xFF, 0x3F, 0, 0,
    ]

    @Test("is 36 bytes (virtio 1.3 §5.6.4)")
    func layout() throws {
        let guest = try SCSIGuest(requestQueues: 4)
        #expect(guest.device.readConfiguration() == Self.expected)
        #expect(guest.device.queueCount == 6)
    }

    @Test("lets the driver write sense_size and cdb_size alone, until a reset")
    func writing() throws {
        let guest = try SCSIGuest(requestQueues: 4)
        #expect(!guest.device.writeConfiguration([8], at: 0))
        #expect(!guest.device.writeConfiguration([0], at: 36))
        #expect(!guest.device.writeConfiguration([0, 0, 0, 0], at: 24))
        #expect(guest.device.writeConfiguration([64, 0, 0, 0, 16, 0, 0, 0], at: 20))
        #expect(Array(guest.device.readConfiguration()[20..<28]) == [64, 0, 0, 0, 16, 0, 0, 0])
        guest.device.reset()
        #expect(guest.device.readConfiguration() == Self.expected)
    }
}
