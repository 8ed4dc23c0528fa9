// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import SCSI
import Stores
import Testing

/// A file in memory.
final class MemoryKeeper: DiskStateKeeper {
    var bytes: [UInt8]?
    var isFull = false
    private(set) var saveCount = 0

    init(_ bytes: [UInt8]? = nil) { self.bytes = bytes }

    func load() -> [UInt8]? { bytes }

    func save(_ bytes: [UInt8]) -> Bool {
        if isFull { return false }
        self.bytes = bytes
        saveCount += 1
        return true
    }
}

@Suite("What a disk keeps beyond the end of the service")
struct DiskStateTests {
    static let second = LUNAddress(rawValue: 0x0101)
    static let write: [UInt8] = [0x2A, 0, 0, 0, 0, 5, 0, 0, 1, 0]

    /// A disk at two targets.
    static func initiator(_ keeper: MemoryKeeper) -> Initiator {
        let initiator = Initiator(keeper: keeper)
        initiator.attach(initiator.disk, target: 1, lun: 0)
        return initiator
    }

    /// PERSISTENT RESERVE OUT with APTPL.
    static func out(
        _ initiator: Initiator, _ action: UInt8, key: UInt8 = 0, new: UInt8 = 0, type: UInt8 = 0,
        persists: Bool = true, to address: LUNAddress = LUNAddress(rawValue: 1)
    ) -> Initiator.Answer {
        let list: [UInt8] =
            [0, 0, 0, 0, 0, 0, 0, key, 0, 0, 0, 0, 0, 0, 0, new, 0, 0, 0, 0, persists ? 1 : 0]
            + [0, 0, 0]
        return initiator.send(
            [0x5F, action, type, 0, 0, 0, 0, 0, 24, 0], out: list, to: address)
    }

    static func reserveIn(_ initiator: Initiator, _ action: UInt8) -> [UInt8] {
        initiator.send([0x5E, action, 0, 0, 0, 0, 0, 1, 0, 0], in: 256).data
    }

    /// A keeper of two registrations, of which the first holds the disk.
    static func reserved() -> MemoryKeeper {
        let keeper = MemoryKeeper()
        let initiator = initiator(keeper)
        _ = out(initiator, 0, new: 0xA1)
        _ = out(initiator, 0, new: 0xB2, to: second)
        _ = out(initiator, 1, key: 0xA1, type: 1)
        return keeper
    }

    @Test("are registrations with APTPL, and the reservation")
    func reservation() {
        let keeper = Self.reserved()
        let initiator = Self.initiator(keeper)
        // The generation begins anew.
        #expect(
            Self.reserveIn(initiator, 0) == [
                0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xA1, 0, 0, 0, 0, 0, 0, 0, 0xB2,
            ])
        #expect(
            Self.reserveIn(initiator, 1) == [
                0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xA1, 0, 0, 0, 0, 0, 1, 0, 0,
            ])
        let block = [UInt8](repeating: 1, count: 512)
        #expect(initiator.send(Self.write, out: block).status == .good)
        #expect(
            initiator.send(Self.write, out: block, to: Self.second).status == .reservationConflict)
        // PTPL_C and PTPL_A.
        #expect(Self.reserveIn(initiator, 2) == [0, 8, 1, 0x81, 0xEA, 0x01, 0, 0])
    }

    @Test("are no registrations once one was made without APTPL")
    func volatile() {
        let keeper = Self.reserved()
        let initiator = Self.initiator(keeper)
        #expect(Self.out(initiator, 0, key: 0xA1, new: 0xA1, persists: false).status == .good)
        #expect(Self.reserveIn(Self.initiator(keeper), 0) == [0, 0, 0, 0, 0, 0, 0, 0])
    }

    @Test("follow every change of what persists")
    func changes() {
        let keeper = Self.reserved()
        let initiator = Self.initiator(keeper)
        _ = Self.out(initiator, 2, key: 0xA1, type: 1)
        #expect(Self.reserveIn(Self.initiator(keeper), 1).count == 8)
        _ = Self.out(initiator, 3, key: 0xA1)
        #expect(Self.reserveIn(Self.initiator(keeper), 0).count == 8)
    }

    @Test("are not changed when they cannot be kept (4/44/00)")
    func full() {
        let keeper = Self.reserved()
        let initiator = Self.initiator(keeper)
        keeper.isFull = true
        #expect(Self.out(initiator, 3, key: 0xA1).fixedSense == [4, 0x44, 0])
        #expect(Self.reserveIn(initiator, 0).count == 24)
        let select = initiator.send(
            [0x15, 0x11, 0, 0, 16, 0],
            out: [0, 0, 0, 0, 0x0A, 10, 4, 0x10, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0])
        #expect(select.fixedSense == [4, 0x44, 0])
        #expect(initiator.send([0xFF, 0, 0, 0, 0, 0]).sense.first == 0x70)
    }

    @Test("cost nothing while nothing persists")
    func nothingToKeep() {
        let keeper = MemoryKeeper()
        let initiator = Self.initiator(keeper)
        _ = Self.out(initiator, 0, new: 0xA1, persists: false)
        _ = Self.out(initiator, 1, key: 0xA1, type: 1, persists: false)
        #expect(keeper.saveCount == 0)
    }

    @Test("are saved mode parameters, which a reset and a start bring back")
    func modes() {
        let keeper = MemoryKeeper()
        let initiator = Self.initiator(keeper)
        let saved: [UInt8] = [0x1A, 0x08, 0xCA, 0, 255, 0]
        #expect(initiator.send(saved, in: 255).data[6] == 0)
        let page: [UInt8] = [0x0A, 10, 4, 0x10, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0]
        #expect(
            initiator.send([0x15, 0x11, 0, 0, 16, 0], out: [0, 0, 0, 0] + page).status == .good)
        // PS, and D_SENSE.
        #expect(Array(initiator.send(saved, in: 255).data[4..<7]) == [0x8A, 10, 4])
        #expect(initiator.manage(.logicalUnitReset) == .functionComplete)
        #expect(initiator.send([0, 0, 0, 0, 0, 0]).sense.first == 0x72)
        #expect(Self.initiator(keeper).send([0xFF, 0, 0, 0, 0, 0]).sense.first == 0x72)
    }

    @Test("is nothing without somebody to keep it")
    func nobody() {
        let initiator = Initiator()
        #expect(Self.out(initiator, 0, new: 0xA1).fixedSense == [5, 0x26, 0])
        #expect(
            initiator.send([0x1A, 0x08, 0xCA, 0, 255, 0], in: 255).fixedSense == [5, 0x39, 0])
        let page: [UInt8] = [0x0A, 10, 4, 0x10, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0]
        let select = initiator.send([0x15, 0x11, 0, 0, 16, 0], out: [0, 0, 0, 0] + page)
        #expect(select.fixedSense == [5, 0x24, 0])
    }

    @Test("is refused when it is damaged in any byte, or cut off anywhere")
    func damage() throws {
        let good = try #require(Self.reserved().bytes)
        let geometry = BlockGeometry(blockSize: 512, blockCount: 8)
        func load(_ bytes: [UInt8]) throws {
            let disk = Disk(store: MemoryStore(geometry: geometry), identity: .test)
            try disk.keepState(with: MemoryKeeper(bytes))
        }
        try load(good)
        for index in good.indices {
            var bytes = good
            bytes[index] ^= 1
            #expect(throws: DiskStateError.self) { try load(bytes) }
            #expect(throws: DiskStateError.self) { try load(Array(good[..<index])) }
        }
    }
}
