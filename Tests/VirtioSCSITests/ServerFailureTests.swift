// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Driver
import SCSI
import Stores
import Testing

@testable import VirtioSCSI

/// What a server has begun fails or hangs; queue 2 is the device's, queue 3 the server's.
@Suite("What goes wrong on a request server", .serialized)
struct ServerFailureTests {
    private static let read: [UInt8] = [0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0]
    private static let shortRead: [UInt8] = [0x08, 0, 0, 5, 2, 0]
    private static let write: [UInt8] = [0x2A, 0, 0, 0, 0, 5, 0, 0, 1, 0]
    private static let ready: [UInt8] = [0, 0, 0, 0, 0, 0]
    private static let requestSense: [UInt8] = [3, 0, 0, 0, 18, 0]
    private static let server = 3
    private let old = [UInt8](repeating: 0x11, count: 512)
    private let new = [UInt8](repeating: 0x22, count: 512)

    private func turn(_ guest: SCSIGuest, times: Int = 8) throws {
        for _ in 0..<times { try guest.turn() }
    }

    /// A write that is under way on the server, and will fail.
    private func guestWithFailingWrite() throws -> SCSIGuest {
        let guest = try SCSIGuest(requestQueues: 2, servers: 1)
        guest.twins[0].failure = { _ in .mediumError(goodByteCount: 0) }
        guest.hold(true)
        guest.offer(SCSIGuest.header(Self.write), out: [old], queue: Self.server, tag: 1)
        try turn(guest)
        try #require(guest.twins[0].pendingCount == 1)
        return guest
    }

    // MARK: Executed again

    @Test("is not executed by another disk that stands at the address by then")
    func otherDisk() throws {
        let guest = try guestWithFailingWrite()
        let lun = try #require(LUN(0))
        guest.bus.detach(target: 0, lun: lun)
        guest.device.forgetRoute(to: (0, lun), of: guest.disk, isGone: true) {}
        try turn(guest)
        let other = MemoryStore(geometry: guest.store.geometry, loop: guest.loop)
        let disk = Disk(store: other, identity: DiskIdentity(stableFrom: "other"))
        #expect(guest.bus.attach(disk, target: 0, lun: lun))
        #expect(try guest.send(Self.requestSense, in: [18])?.status == 0)
        guest.twins[0].endAll()
        try turn(guest)
        // VIRTIO_SCSI_S_TARGET_FAILURE.
        let answers = try guest.reap(queue: Self.server)
        #expect(answers.map(\.response) == [7] && answers.map(\.residual) == [512])
        #expect(answers.map(\.usedLength) == [108])
        #expect(other.log.isEmpty && guest.store.log.isEmpty)
        #expect(guest.device.underWayCount == 0)
    }

    @Test("is not executed by another disk that comes before the server has let go")
    func otherDiskAtOnce() throws {
        let guest = try guestWithFailingWrite()
        let lun = try #require(LUN(0))
        guest.twins[0].endAll()
        guest.bus.detach(target: 0, lun: lun)
        let other = MemoryStore(geometry: guest.store.geometry, loop: guest.loop)
        let disk = Disk(store: other, identity: DiskIdentity(stableFrom: "other"))
        #expect(guest.bus.attach(disk, target: 0, lun: lun))
        guest.device.forgetRoute(to: (0, lun), of: guest.disk, isGone: true) {}
        #expect(try guest.send(Self.requestSense, in: [18])?.status == 0)
        #expect(try guest.reap(queue: Self.server).map(\.response) == [7])
        #expect(other.log.isEmpty)
    }

    @Test("is not executed after its queue was stopped")
    func stoppedQueue() throws {
        let guest = try guestWithFailingWrite()
        guest.servers[0].stopQueue(at: Self.server)
        guest.servers[0].expediteStop(ofQueueAt: Self.server)
        try turn(guest)
        guest.store.isHolding = false
        guest.twins[0].endAll()
        try turn(guest)
        // VIRTIO_SCSI_S_RESET.
        let answers = try guest.reap(queue: Self.server)
        #expect(answers.map(\.response) == [4] && answers.map(\.residual) == [512])
        #expect(guest.store.log.isEmpty && guest.device.underWayCount == 0)
    }

    @Test("is executed before an ORDERED command that waits for it", arguments: [false, true])
    func beforeOrdered(otherCommandEnds: Bool) throws {
        let guest = try guestWithFailingWrite()
        guest.offer(SCSIGuest.header(Self.write, attribute: 1), out: [new], tag: 2)
        try turn(guest)
        #expect(guest.store.pendingCount == 0)
        guest.twins[0].endAll()
        if otherCommandEnds {
            // HEAD OF QUEUE: it ends before the device has the write, and has it look again.
            guest.offer(SCSIGuest.header(Self.ready, attribute: 2), tag: 3)
            #expect(guest.store.pendingCount == 0)
        }
        for _ in 0..<4 {
            try turn(guest)
            #expect(guest.store.pendingCount <= 1)
            guest.store.endAll()
        }
        try turn(guest)
        #expect(try guest.reap(queue: Self.server).map(\.status) == [0])
        #expect(try guest.reap().filter { $0.tag == 2 }.map(\.status) == [0])
        #expect(guest.store[5] == new)
    }

    // MARK: Functions

    @Test("keeps no function waiting into the next session")
    func functionOfEarlierSession() throws {
        let guest = try SCSIGuest(requestQueues: 2, servers: 1)
        guest.hold(true)
        guest.offer(SCSIGuest.header(Self.read), in: [1024], queue: Self.server, tag: 1)
        // LOGICAL UNIT RESET.
        #expect(try guest.control(SCSIGuest.taskManagement(5)) == nil)
        guest.device.stopQueue(at: 0)
        guest.device.reset()
        #expect(try guest.send(Self.requestSense, in: [18])?.status == 0)
        guest.twins[0].endAll()
        try turn(guest)
        #expect(try guest.send(Self.ready)?.status == 0)
        // The gate is open again.
        guest.hold(false)
        _ = try guest.reap(queue: Self.server)
        for _ in 0..<2 {
            #expect(try guest.send(Self.read, in: [1024], queue: Self.server)?.status == 0)
        }
        #expect(guest.twins[0].log.count > 1)
    }

    @Test("keeps no function waiting when the time to drain is over")
    func functionAtStop() throws {
        let guest = try SCSIGuest(requestQueues: 2, servers: 1)
        guest.hold(true)
        guest.offer(SCSIGuest.header(Self.read), in: [1024], queue: Self.server, tag: 1)
        #expect(try guest.control(SCSIGuest.taskManagement(5)) == nil)
        guest.device.expediteStop(ofQueueAt: 0)
        try turn(guest)
        #expect(try guest.endedControl() == nil)
        guest.device.stopQueue(at: 0)
        guest.device.expediteStop(ofQueueAt: 0)
        try turn(guest)
        // VIRTIO_SCSI_S_FUNCTION_REJECTED.
        #expect(try guest.endedControl() == [11])
        guest.twins[0].endAll()
        try turn(guest)
        #expect(try guest.send(Self.ready)?.status == 0)
    }

    // MARK: Much at once

    /// A guest whose server has left 100 commands to the device, which has not looked at them.
    private func guestWithBacklog() throws -> SCSIGuest {
        let guest = try SCSIGuest(requestQueues: 2, servers: 1)
        guest.hold(true)
        for tag in 0..<100 {
            let header = SCSIGuest.header(Self.shortRead, tag: UInt64(tag))
            guest.rings[Self.server].offer(
                Chain(
                    readable: [guest.memory.segment(header)],
                    writable: [guest.memory.segment(byteCount: 1132)], placement: .indirect),
                tag: tag)
        }
        guest.servers[0].takeEverything()
        try #require(guest.device.underWayCount == 100)
        return guest
    }

    @Test("does not keep the device from its own queues while it works through what was left")
    func backlog() throws {
        let guest = try guestWithBacklog()
        guest.device.takeForwarded(over: guest.servers[0].address.link)
        #expect(guest.store.pendingCount == 64)
        guest.offer(SCSIGuest.header(Self.shortRead), in: [1024], tag: 200)
        #expect(guest.store.pendingCount == 65)
        try turn(guest)
        #expect(guest.store.pendingCount == 101)
        guest.store.endAll()
        try turn(guest)
        #expect(try guest.reap(queue: Self.server).map(\.tag) == Array(0..<100))
        #expect(try guest.reap().map(\.tag) == [200])
    }

    @Test("leaves nothing that a function overlooks")
    func functionAndBacklog() throws {
        let guest = try guestWithBacklog()
        // ABORT TASK of the last one, then of all.
        #expect(try guest.control(SCSIGuest.taskManagement(0, tag: 99)) == nil)
        #expect(guest.store.pendingCount == 100)
        #expect(try guest.control(SCSIGuest.taskManagement(1)) == nil)
        guest.store.endAll()
        try turn(guest)
        let answers = try guest.reap(queue: Self.server)
        #expect(answers.map(\.tag) == Array(0..<100))
        // VIRTIO_SCSI_S_ABORTED.
        #expect(answers.allSatisfy { $0.response == 2 })
        #expect(try guest.endedControl() == [0])
        #expect(try guest.endedControl() == [0])
    }

    @Test("leaves nothing behind when the time to drain is over")
    func stopWithBacklog() throws {
        let guest = try SCSIGuest(requestQueues: 2, servers: 1)
        guest.hold(true)
        guest.offer(SCSIGuest.header(Self.shortRead), in: [1024], tag: 1)
        for tag in 0..<100 {
            let header = SCSIGuest.header(Self.shortRead, attribute: 1)
            guest.rings[Self.server].offer(
                Chain(
                    readable: [guest.memory.segment(header)],
                    writable: [guest.memory.segment(byteCount: 1132)], placement: .indirect),
                tag: tag)
        }
        guest.servers[0].takeEverything()
        guest.servers[0].stopQueue(at: Self.server)
        guest.servers[0].expediteStop(ofQueueAt: Self.server)
        try turn(guest)
        // VIRTIO_SCSI_S_RESET.
        let answers = try guest.reap(queue: Self.server)
        #expect(answers.map(\.tag).sorted() == Array(0..<100))
        #expect(answers.allSatisfy { $0.response == 4 })
        guest.store.endAll()
        try turn(guest)
        #expect(try guest.reap().map(\.status) == [0])
    }
}
