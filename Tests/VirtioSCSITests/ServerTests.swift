// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Driver
import LinuxIO
import Stores
import Testing
import VirtioSCSI

@testable import SCSI

/// One server beside the device; queue 2 is the device's, queue 3 the server's.
@Suite("A request server", .serialized)
struct ServerTests {
    private static let read: [UInt8] = [0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0]
    /// READ (6), which only the disk executes.
    private static let shortRead: [UInt8] = [0x08, 0, 0, 5, 2, 0]
    private static let write: [UInt8] = [0x2A, 0, 0, 0, 0, 5, 0, 0, 1, 0]
    private static let ready: [UInt8] = [0, 0, 0, 0, 0, 0]
    private static let server = 3

    private func guest(_ format: RingFormat = .split) throws -> SCSIGuest {
        try SCSIGuest(format, requestQueues: 2, servers: 1)
    }

    private func turn(_ guest: SCSIGuest, times: Int = 8) throws {
        for _ in 0..<times { try guest.turn() }
    }

    private func figures(_ guest: SCSIGuest) throws -> StoreFigures {
        try #require(guest.disk.gateKeeper?.gate.figures)
    }

    @Test("reads and writes by itself what is plain", arguments: RingFormat.allCases)
    func plain(format: RingFormat) throws {
        let guest = try guest(format)
        let data = [UInt8](repeating: 0xA5, count: 512)
        let written = try #require(
            try guest.send(Self.write, out: [data], queue: Self.server))
        #expect([written.status, written.response] == [0, 0])
        #expect(written.usedLength == 108 && written.residual == 0 && written.senseLength == 0)
        #expect(guest.store[5] == data)
        let answer = try #require(
            try guest.send(Self.read, in: [1024], queue: Self.server))
        #expect(answer.usedLength == 108 + 1024 && answer.data.prefix(512) == data[...])
        #expect(guest.store.log.isEmpty && guest.twins[0].log.count == 2)
        let figures = try figures(guest)
        #expect(figures.readCount == 1 && figures.readByteCount == 1024)
        #expect(figures.writeCount == 1 && figures.writtenByteCount == 512)
    }

    @Test("leaves everything else to the device")
    func forwards() throws {
        let guest = try guest()
        let inquiry = try #require(
            try guest.send([0x12, 0, 0, 0, 36, 0], in: [36], queue: Self.server))
        #expect(inquiry.status == 0 && inquiry.usedLength == 108 + 36)
        let short = try #require(
            try guest.send(Self.shortRead, in: [1024], queue: Self.server))
        #expect(short.status == 0 && short.usedLength == 108 + 1024)
        // FUA.
        let durable: [UInt8] = [0x2A, 8, 0, 0, 0, 5, 0, 0, 1, 0]
        let data = [UInt8](repeating: 1, count: 512)
        #expect(try guest.send(durable, out: [data], queue: Self.server)?.status == 0)
        let outside: [UInt8] = [0x28, 0, 0, 0, 0x10, 0, 0, 0, 1, 0]
        let refused = try #require(try guest.send(outside, in: [512], queue: Self.server))
        #expect([refused.sense[2], refused.sense[12], refused.sense[13]] == [5, 0x21, 0])
        let nowhere = try #require(
            try guest.send(Self.read, in: [1024], lun: [1, 9, 0, 0, 0, 0, 0, 0], queue: 3))
        #expect(nowhere.response == 3)
        #expect(guest.twins[0].log.isEmpty && guest.store.log.count == 2)
    }

    @Test("has the disk execute again what fails, and say what is wrong")
    func fails() throws {
        let guest = try guest()
        guest.twins[0].failure = { _ in .mediumError(goodByteCount: 0) }
        #expect(try guest.send(Self.read, in: [1024], queue: Self.server)?.status == 0)
        #expect(guest.store.log.count == 1)
        guest.store.failure = { _ in .mediumError(goodByteCount: 512) }
        let answer = try #require(try guest.send(Self.read, in: [1024], queue: Self.server))
        #expect([answer.sense[2], answer.sense[12], answer.sense[13]] == [3, 0x11, 0])
        #expect(answer.usedLength == 108 + 512)
        #expect(try figures(guest).readCount == 0)
    }

    @Test("has nothing under way when a function is answered, and has said so first")
    func abortOrder() throws {
        let guest = try guest()
        guest.hold(true)
        guest.offer(
            SCSIGuest.header(Self.read, tag: 5), in: [1024], queue: Self.server, tag: 1)
        #expect(guest.twins[0].pendingCount == 1)
        #expect(try guest.control(SCSIGuest.taskManagement(0, tag: 5)) == nil)
        #expect(try guest.reap(queue: Self.server).isEmpty)
        guest.twins[0].endAll()
        var answers: [SCSIGuest.Response] = []
        for _ in 0..<20 {
            try guest.turn()
            if let ended = try guest.endedControl() {
                #expect(ended == [0])
                answers = try guest.reap(queue: Self.server)
                break
            }
        }
        // Done before it could be aborted.
        #expect(answers.map(\.status) == [0] && answers.map(\.usedLength) == [1132])
    }

    @Test("has the device abort what was left to it, and publishes that before the function ends")
    func abortsForwarded() throws {
        let guest = try guest()
        guest.hold(true)
        guest.offer(
            SCSIGuest.header(Self.shortRead, tag: 5), in: [1024], queue: Self.server, tag: 1)
        #expect(try guest.control(SCSIGuest.taskManagement(0, tag: 5)) == nil)
        #expect(guest.store.pendingCount == 1)
        guest.store.endAll()
        for _ in 0..<20 {
            try guest.turn()
            guard let ended = try guest.endedControl() else { continue }
            #expect(ended == [0])
            #expect(try guest.reap(queue: Self.server).map(\.response) == [2])
            let before = guest.memory.snapshot()
            try turn(guest)
            #expect(guest.memory.pagesChanged(since: before).isEmpty)
            return
        }
        Issue.record("the function was not answered")
    }

    @Test("takes requests that were offered before a function")
    func olderRequests() throws {
        let guest = try guest()
        guest.hold(true)
        let memory = guest.memory
        // Offered, but the server has not been notified yet.
        guest.rings[Self.server].offer(
            Chain(
                readable: [memory.segment(SCSIGuest.header(Self.read, tag: 5))],
                writable: [memory.segment(byteCount: 1132)]))
        // VIRTIO_SCSI_S_FUNCTION_SUCCEEDED: it is there.
        #expect(try guest.control(SCSIGuest.taskManagement(6, tag: 5)) == [10])
        guest.store.endAll()
        try turn(guest)
    }

    @Test("keeps its reads on the side of an ORDERED command that they were sent on")
    func ordered() throws {
        let guest = try guest()
        guest.hold(true)
        guest.offer(SCSIGuest.header(Self.read), in: [1024], queue: Self.server, tag: 1)
        guest.offer(
            SCSIGuest.header(Self.read, attribute: 1), in: [1024], queue: Self.server, tag: 2)
        guest.offer(SCSIGuest.header(Self.read), in: [1024], queue: Self.server, tag: 3)
        try turn(guest)
        #expect([guest.twins[0].pendingCount, guest.store.pendingCount] == [1, 0])
        guest.twins[0].endAll()
        try turn(guest)
        #expect([guest.twins[0].pendingCount, guest.store.pendingCount] == [0, 1])
        guest.store.end()
        try turn(guest)
        #expect([guest.twins[0].pendingCount, guest.store.pendingCount] == [0, 1])
        guest.store.endAll()
        try turn(guest)
        #expect(try guest.reap(queue: Self.server).map(\.tag) == [1, 2, 3])
    }

    @Test("does nothing beside COMPARE AND WRITE")
    func exclusive() throws {
        let guest = try guest()
        guest.hold(true)
        guest.offer(SCSIGuest.header(Self.read), in: [1024], queue: Self.server, tag: 1)
        let compareAndWrite: [UInt8] = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0]
        let old = [UInt8](repeating: 0, count: 512)
        let new = [UInt8](repeating: 7, count: 512)
        guest.offer(SCSIGuest.header(compareAndWrite), out: [old, new], tag: 2)
        try turn(guest)
        #expect([guest.twins[0].pendingCount, guest.store.pendingCount] == [1, 0])
        guest.twins[0].endAll()
        try turn(guest)
        #expect(guest.store.pendingCount == 1)
        // Later ones come by the device, and wait for it.
        guest.offer(SCSIGuest.header(Self.write), out: [old], queue: Self.server, tag: 3)
        try turn(guest)
        #expect([guest.twins[0].pendingCount, guest.store.pendingCount] == [0, 1])
        for _ in 0..<8 {
            guest.store.endAll()
            try turn(guest)
        }
        #expect(try guest.reap().map(\.status) == [0])
        #expect(try guest.reap(queue: Self.server).map(\.status) == [0, 0])
        #expect(guest.store[5] == old)
    }

    @Test("tells of a new size before it uses it")
    func resizes() throws {
        let guest = try guest()
        guest.store.geometry.blockCount = 4
        #expect(guest.disk.refreshGeometry(on: guest.bus))
        let told = try #require(try guest.send(Self.read, in: [1024], queue: Self.server))
        #expect([told.sense[2], told.sense[12], told.sense[13]] == [6, 0x2A, 9])
        let refused = try #require(try guest.send(Self.read, in: [1024], queue: Self.server))
        #expect([refused.sense[2], refused.sense[12], refused.sense[13]] == [5, 0x21, 0])
        #expect(guest.twins[0].log.isEmpty)
    }

    @Test("leaves writes to the disk while its write cache is off, or it is write-protected")
    func modes() throws {
        let guest = try guest()
        // MODE SELECT (6), the caching page with WCE 0.
        let list: [UInt8] = [0, 0, 0, 0, 0x08, 0x12] + [UInt8](repeating: 0, count: 18)
        #expect(
            try guest.send([0x15, 0x10, 0, 0, 24, 0], out: [list], queue: Self.server)?.status
                == 0)
        let data = [UInt8](repeating: 1, count: 512)
        for _ in 0..<2 {
            #expect(try guest.send(Self.write, out: [data], queue: Self.server)?.status == 0)
        }
        #expect(guest.twins[0].log.isEmpty)
        let writes = guest.store.log.filter { $0.operation != .flush }
        #expect(writes.map(\.operation) == [.write(isDurable: true), .write(isDurable: true)])
        #expect(try guest.send(Self.read, in: [1024], queue: Self.server)?.status == 0)
        #expect(guest.twins[0].log.count == 1)
    }

    @Test("leaves a disk with limits to the device")
    func limits() throws {
        let guest = try guest()
        guest.disk.gateKeeper?.isLimited = true
        for _ in 0..<2 { _ = try guest.send(Self.read, in: [1024], queue: Self.server) }
        #expect(guest.twins[0].log.isEmpty && guest.store.log.count == 2)
        guest.disk.gateKeeper?.isLimited = false
        for _ in 0..<2 { _ = try guest.send(Self.read, in: [1024], queue: Self.server) }
        #expect(guest.twins[0].log.count == 1 && guest.store.log.count == 3)
    }

    @Test("finds nothing where a disk was removed, while its last request goes on")
    func removal() throws {
        let guest = try guest()
        let lun = try #require(LUN(0))
        guest.hold(true)
        guest.offer(SCSIGuest.header(Self.read), in: [1024], queue: Self.server, tag: 1)
        var isForgotten = false
        guest.bus.detach(target: 0, lun: lun)
        guest.device.forgetRoute(to: (0, lun), of: guest.disk, isGone: true) {
            isForgotten = true
        }
        guest.offer(SCSIGuest.header(Self.read), in: [1024], queue: Self.server, tag: 2)
        try turn(guest)
        #expect(isForgotten && guest.twins[0].isClosed)
        #expect(try guest.reap(queue: Self.server).map(\.response) == [3])
        guest.twins[0].endAll()
        try turn(guest)
        #expect(try guest.reap(queue: Self.server).map(\.status) == [0])
    }

    @Test("takes nothing while the device is drained, and goes on after")
    func drains() throws {
        let guest = try guest()
        guest.hold(true)
        guest.offer(SCSIGuest.header(Self.read), in: [1024], queue: Self.server, tag: 1)
        guest.offer(SCSIGuest.header(Self.shortRead), in: [1024], queue: Self.server, tag: 2)
        try turn(guest)
        #expect(guest.device.underWayCount == 2)
        guest.device.isDraining = true
        try turn(guest)
        guest.offer(SCSIGuest.header(Self.read), in: [1024], queue: Self.server, tag: 3)
        guest.twins[0].endAll()
        guest.store.endAll()
        try turn(guest)
        #expect(guest.device.underWayCount == 0)
        #expect(try guest.reap(queue: Self.server).map(\.tag) == [1, 2])
        guest.hold(false)
        guest.device.isDraining = false
        try turn(guest)
        #expect(try guest.reap(queue: Self.server).map(\.tag) == [3])
    }

    @Test("ends what waits when the time to drain is over")
    func expedites() throws {
        let guest = try guest()
        guest.hold(true)
        guest.offer(SCSIGuest.header(Self.shortRead), in: [1024], tag: 1)
        guest.offer(
            SCSIGuest.header(Self.read, attribute: 1), in: [1024], queue: Self.server, tag: 2)
        try turn(guest)
        let server = guest.servers[0]
        server.stopQueue(at: Self.server)
        try turn(guest)
        #expect(try guest.reap(queue: Self.server).isEmpty)
        server.expediteStop(ofQueueAt: Self.server)
        try turn(guest)
        #expect(try guest.reap(queue: Self.server).map(\.response) == [4])
        guest.store.endAll()
        try turn(guest)
        #expect(try guest.reap().map(\.status) == [0])
    }

    @Test("polls its queues where its loop does", arguments: RingFormat.allCases)
    func polls(format: RingFormat) throws {
        let guest = try SCSIGuest(
            format, requestQueues: 2, pollLimit: .microseconds(50), servers: 1)
        for _ in 0..<20 {
            #expect(try guest.send(Self.read, in: [1024], queue: Self.server)?.status == 0)
        }
        #expect(guest.twins[0].log.count == 20)
    }

    @Test("finds places at the device however many it has taken from its own queues")
    func placesApart() throws {
        let guest = try SCSIGuest(requestQueues: 2, commandLimit: 64, servers: 1)
        guest.hold(true)
        for tag in 0..<100 {
            guest.offer(SCSIGuest.header(Self.shortRead), in: [1024], tag: tag)
            guest.offer(
                SCSIGuest.header(Self.shortRead), in: [1024], queue: Self.server, tag: tag)
        }
        try turn(guest, times: 30)
        #expect(guest.store.pendingCount == 64 + 100 && guest.device.underWayCount == 164)
        guest.hold(false)
        guest.store.endAll()
        try turn(guest, times: 30)
        #expect(try guest.reap().map(\.tag) == Array(0..<100))
        #expect(try guest.reap(queue: Self.server).map(\.tag) == Array(0..<100))
        #expect(guest.device.underWayCount == 0)
    }

    @Test("takes no more at once than its share of the places", arguments: RingFormat.allCases)
    func lackOfPlaces(format: RingFormat) throws {
        // One of 4096 servers has 64 places.
        let guest = try SCSIGuest(format, requestQueues: 2, servers: 1, ofServers: 4096)
        guest.hold(true)
        for tag in 0..<100 {
            let cdb = tag % 2 == 0 ? Self.shortRead : Self.read
            guest.offer(SCSIGuest.header(cdb), in: [1024], queue: Self.server, tag: tag)
        }
        try turn(guest, times: 30)
        #expect(guest.store.pendingCount == 32 && guest.twins[0].pendingCount == 32)
        #expect(guest.device.underWayCount == 64)
        guest.hold(false)
        guest.twins[0].endAll()
        guest.store.endAll()
        try turn(guest, times: 30)
        #expect(try guest.reap(queue: Self.server).map(\.tag).sorted() == Array(0..<100))
        #expect(guest.device.underWayCount == 0)
    }

    @Test("lets a function end that waits for it when its disk is removed meanwhile")
    func removalBeforeFunction() throws {
        let guest = try guest()
        let lun = try #require(LUN(0))
        guest.hold(true)
        guest.offer(SCSIGuest.header(Self.read, tag: 5), in: [1024], queue: Self.server)
        #expect(try guest.control(SCSIGuest.taskManagement(0, tag: 5)) == nil)
        guest.bus.detach(target: 0, lun: lun)
        guest.disk.close()
        guest.device.forgetRoute(to: (0, lun), of: guest.disk, isGone: true) {}
        try turn(guest)
        guest.twins[0].endAll()
        try turn(guest)
        #expect(try guest.endedControl() == [3])
    }

    @Test("is waited for once, however many commands end meanwhile")
    func waitsOnce() throws {
        let guest = try guest()
        guest.hold(true)
        guest.offer(SCSIGuest.header(Self.read), in: [1024], queue: Self.server, tag: 1)
        // RESERVE (6) must be alone.
        guest.offer(SCSIGuest.header([0x16, 0, 0, 0, 0, 0]), tag: 2)
        for _ in 0..<100 {
            #expect(try guest.send([0x12, 0, 0, 0, 36, 0], in: [36])?.status == 0)
        }
        #expect(guest.disk.gateKeeper?.waiterCount == 1)
        guest.twins[0].endAll()
        try turn(guest)
        #expect(try guest.reap().map(\.tag) == [2])
        #expect(guest.disk.gateKeeper?.waiterCount == 0)
    }
}
