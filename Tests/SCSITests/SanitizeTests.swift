// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import SCSI
import Stores
import Testing

@Suite("SANITIZE")
struct SanitizeTests {
    static let blockErase: [UInt8] = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0]
    static let testUnitReady: [UInt8] = [0x00, 0, 0, 0, 0, 0]

    static func overwrite(_ flags: UInt8 = 0, listByteCount: Int) -> [UInt8] {
        [0x48, 0x01 | flags, 0, 0, 0, 0, 0, UInt8(listByteCount >> 8), UInt8(listByteCount & 0xFF)]
            + [0]
    }

    static func filled() -> Initiator {
        let initiator = Initiator()
        for block: UInt64 in [0, 1000, 2047] {
            initiator.store[block] = [UInt8](repeating: 0x61, count: 512)
        }
        return initiator
    }

    @Test("BLOCK ERASE frees every block, and takes no parameter list")
    func erase() {
        let initiator = Self.filled()
        #expect(initiator.send(Self.blockErase).status == .good)
        #expect(initiator.store.allocatedBlockCount == 0)
        #expect(initiator.store.log.last?.operation == .flush)
        var cdb = Self.blockErase
        cdb[8] = 8
        #expect(
            initiator.send(cdb, out: [UInt8](repeating: 0, count: 8)).fixedSense == [5, 0x24, 0])
    }

    @Test("OVERWRITE begins its pattern anew in each block, and inverts it after each pass")
    func overwrite() {
        let initiator = Self.filled()
        let pattern: [UInt8] = [1, 2, 3]
        let once = initiator.send(
            Self.overwrite(listByteCount: 7), out: [0x01, 0, 0, 3] + pattern)
        #expect(once.status == .good)
        let block = (0..<512).map { UInt8($0 % 3 + 1) }
        #expect([0, 7, 2047].allSatisfy { initiator.store[$0] == block })
        let twice = initiator.send(
            Self.overwrite(listByteCount: 7), out: [0x82, 0, 0, 3] + pattern)
        #expect(twice.status == .good)
        #expect(initiator.store[2047] == block.map { ~$0 })
    }

    @Test(
        "OVERWRITE refuses lists that are too short or too long",
        arguments: [0, 1, 4, 517])
    func lengths(byteCount: Int) {
        let list = [UInt8](repeating: 1, count: byteCount)
        let answer = Self.filled().send(Self.overwrite(listByteCount: byteCount), out: list)
        #expect(answer.fixedSense == [5, 0x24, 0])
    }

    @Test(
        "OVERWRITE refuses no passes, and patterns of no bytes or of more than the list has",
        arguments: [[0x00, 0, 0, 1, 9], [0x01, 0, 0, 0, 9], [0x01, 0, 0, 2, 9]] as [[UInt8]])
    func lists(list: [UInt8]) {
        let answer = Self.filled().send(Self.overwrite(listByteCount: 5), out: list)
        #expect(answer.fixedSense == [5, 0x26, 0])
    }

    @Test("keeps commands off until it has ended, and says how far it is")
    func inProgress() {
        let initiator = Self.filled()
        initiator.store.isHolding = true
        let erase = initiator.start(Self.overwrite(listByteCount: 5), out: [0x01, 0, 0, 1, 9])
        #expect(initiator.answers[erase] == nil)
        let ready = initiator.start(Self.testUnitReady)
        #expect(initiator.answers[ready]?.fixedSense == [2, 0x04, 0x1B])
        // The sense-key-specific field tells the progress.
        #expect(initiator.answers[ready]?.sense[15] == 0x80)
        let read = initiator.start([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], in: 512)
        #expect(initiator.answers[read]?.fixedSense == [2, 0x04, 0x1B])
        let requestSense = initiator.start([0x03, 0, 0, 0, 18, 0], in: 18)
        #expect(initiator.answers[requestSense]?.data[2] == 2)
        #expect(initiator.answers[requestSense]?.data[12...13] == [0x04, 0x1B])
        let inquiry = initiator.start([0x12, 0, 0, 0, 36, 0], in: 36)
        #expect(initiator.answers[inquiry]?.status == .good)
        initiator.store.endAll()
        initiator.collect()
        #expect(initiator.answers[erase]?.status == .good)
        initiator.store.isHolding = false
        #expect(initiator.send(Self.testUnitReady).status == .good)
    }

    @Test("waits for the commands before it")
    func waits() {
        let initiator = Self.filled()
        initiator.store.isHolding = true
        let write = initiator.start(
            [0x2A, 0, 0, 0, 0, 9, 0, 0, 1, 0], out: [UInt8](repeating: 7, count: 512))
        let erase = initiator.start(Self.blockErase)
        #expect(initiator.store.pendingCount == 1)
        initiator.store.endAll()
        initiator.collect()
        #expect(initiator.order.suffix(2) == [write, erase])
        #expect(initiator.store.allocatedBlockCount == 0)
    }

    @Test("ends at once with IMMED, and goes on")
    func immediate() {
        let initiator = Self.filled()
        initiator.store.isHolding = true
        var cdb = Self.blockErase
        cdb[1] |= 0x80
        let erase = initiator.start(cdb)
        #expect(initiator.answers[erase]?.status == .good)
        let ready = initiator.start(Self.testUnitReady)
        #expect(initiator.answers[ready]?.fixedSense == [2, 0x04, 0x1B])
        initiator.store.endAll()
        #expect(initiator.store.allocatedBlockCount == 0)
        initiator.store.isHolding = false
        #expect(initiator.send(Self.testUnitReady).status == .good)
    }

    @Test("is not stopped by a reset, which ends its command at once")
    func reset() {
        let initiator = Self.filled()
        initiator.store.isHolding = true
        let erase = initiator.start(Self.blockErase)
        #expect(initiator.manage(.logicalUnitReset) == .functionComplete)
        #expect(initiator.answers[erase]?.response == .reset)
        // The same place in the table, and another SANITIZE.
        _ = initiator.start([0x03, 0, 0, 0, 18, 0], in: 18)
        let again = initiator.start(Self.blockErase)
        #expect(initiator.answers[again]?.fixedSense == [2, 0x04, 0x1B])
        initiator.store.endAll()
        #expect(initiator.store.allocatedBlockCount == 0)
        initiator.store.isHolding = false
        #expect(initiator.send(Self.testUnitReady).status == .good)
    }

    @Test(
        "goes on when its disk is removed and gone, until the store is closed",
        arguments: [false, true])
    func removed(isClosed: Bool) throws {
        let initiator = Self.filled()
        let lun = try #require(LUN(0))
        var geometry = BlockGeometry(blockSize: 512, blockCount: 2048)
        geometry.discardGranularity = 4096
        let store = MemoryStore(geometry: geometry)
        store[7] = [UInt8](repeating: 7, count: 512)
        weak var gone: Disk?
        do {
            let disk = Disk(store: store, identity: .test)
            gone = disk
            initiator.attach(disk, target: 1, lun: 0)
        }
        let pattern = initiator.start(
            Self.overwrite(listByteCount: 5), out: [0x02, 0, 0, 1, 9],
            to: LUNAddress(target: 1, lun: lun))
        #expect(store.pendingCount == 1)
        initiator.bus.detach(target: 1, lun: lun)
        if isClosed { gone?.close() }
        initiator.collect()
        #expect(initiator.answers[pattern]?.response == .targetFailure)
        // A way that is removed is let go with the next one.
        initiator.bus.detach(target: 0, lun: lun)
        #expect(gone == nil)
        store.endAll()
        #expect(store[7].allSatisfy { $0 == 9 })
        // The first request of the second pass came too late for a store that was closed.
        let isFlushed = store.log.last?.operation == .flush
        #expect(isFlushed != isClosed)
    }

    @Test("leaves a disk whose medium failed unusable until it succeeds (3/31/03)")
    func failure() {
        let initiator = Self.filled()
        initiator.store.failure = { _ in .mediumError(goodByteCount: 0) }
        #expect(initiator.send(Self.blockErase).fixedSense == [3, 0x31, 0x03])
        initiator.store.failure = nil
        #expect(initiator.send(Self.testUnitReady).fixedSense == [3, 0x31, 0x03])
        let exit: [UInt8] = [0x48, 0x1F, 0, 0, 0, 0, 0, 0, 0, 0]
        #expect(initiator.send(exit).fixedSense == [5, 0x24, 0])
        #expect(initiator.send(Self.blockErase).status == .good)
        #expect(initiator.send(Self.testUnitReady).status == .good)
    }

    @Test("with AUSE leaves the way out by EXIT FAILURE MODE")
    func unrestricted() {
        let initiator = Self.filled()
        initiator.store.failure = { _ in .mediumError(goodByteCount: 0) }
        var cdb = Self.blockErase
        cdb[1] |= 0x20
        #expect(initiator.send(cdb).fixedSense == [3, 0x31, 0x03])
        initiator.store.failure = nil
        let exit: [UInt8] = [0x48, 0x1F, 0, 0, 0, 0, 0, 0, 0, 0]
        #expect(initiator.send(exit).status == .good)
        #expect(initiator.send(Self.testUnitReady).status == .good)
    }

    @Test("refuses other service actions", arguments: [0x00, 0x03, 0x04, 0x1E] as [UInt8])
    func actions(action: UInt8) {
        let answer = Self.filled().send([0x48, action, 0, 0, 0, 0, 0, 0, 0, 0])
        #expect(answer.fixedSense == [5, 0x24, 0])
    }

    @Test("is refused by a disk that must not be written")
    func readOnly() {
        let answer = Initiator(isReadOnly: true).send(Self.blockErase)
        #expect(answer.fixedSense == [7, 0x27, 0])
    }
}
