// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SCSI
import Stores
import Testing

/// A keeper whose exchanges are done when the test says so.
protocol TestKeeper: DiskStateKeeper {
    func open() throws -> OpenedDiskState
    /// Does every exchange, and those that come of it.
    func finish()
}

/// A file in memory.
final class MemoryKeeper: TestKeeper {
    let isShared = false
    let changes = SharedCounter.constant
    var bytes: [UInt8]?
    var isFull = false
    private(set) var saveCount = 0
    private var exchanges: [(([UInt8]?) -> [UInt8]?, (UInt64?) -> Void)] = []

    init(_ bytes: [UInt8]? = nil) { self.bytes = bytes }

    func open() throws -> OpenedDiskState {
        try OpenedDiskState { change in
            if let changed = change(bytes, true) { bytes = changed }
            return 0
        }
    }

    func exchange(
        _ change: @escaping @Sendable ([UInt8]?) -> [UInt8]?,
        whenDone: @escaping (UInt64?) -> Void
    ) {
        exchanges.append((change, whenDone))
    }

    func finish() {
        while !exchanges.isEmpty {
            let (change, whenDone) = exchanges.removeFirst()
            let changed = change(bytes)
            if changed != nil, isFull {
                whenDone(nil)
            } else {
                if changed != nil { saveCount += 1 }
                bytes = changed ?? bytes
                whenDone(0)
            }
        }
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

    @Test("are not written when a command changes nothing")
    func nothingToKeep() {
        let keeper = Self.reserved()
        let initiator = Self.initiator(keeper)
        let count = keeper.saveCount
        #expect(Self.out(initiator, 0, key: 9, new: 8).status == .reservationConflict)
        #expect(Self.out(initiator, 1, key: 0xA1, type: 1).status == .good)
        #expect(keeper.saveCount == count)
    }

    @Test("are changed on another thread, and the command waits until the change is safe")
    func waits() {
        let keeper = MemoryKeeper()
        let initiator = Self.initiator(keeper)
        let list = [UInt8](repeating: 0, count: 15) + [0xA1] + [UInt8](repeating: 0, count: 8)
        let register = initiator.start([0x5F, 0, 0, 0, 0, 0, 0, 0, 24, 0], out: list)
        #expect(initiator.answers[register] == nil)
        // Others go on meanwhile.
        let ready = initiator.start([0, 0, 0, 0, 0, 0])
        #expect(initiator.answers[ready]?.status == .good)
        keeper.finish()
        initiator.collect()
        #expect(initiator.answers[register]?.status == .good)
        #expect(Self.reserveIn(initiator, 0).last == 0xA1)
    }

    @Test("are changed although a reset ends the command, which does not wait")
    func aborted() {
        let keeper = MemoryKeeper()
        let initiator = Self.initiator(keeper)
        let list = [UInt8](repeating: 0, count: 15) + [0xA1] + [UInt8](repeating: 0, count: 8)
        let register = initiator.start([0x5F, 0, 0, 0, 0, 0, 0, 0, 24, 0], out: list)
        #expect(initiator.manage(.logicalUnitReset) == .functionComplete)
        #expect(initiator.answers[register]?.response == .reset)
        // The same place in the table, and another change.
        _ = initiator.start([0x03, 0, 0, 0, 18, 0], in: 18)
        let again = initiator.start([0x5F, 6, 0, 0, 0, 0, 0, 0, 24, 0], out: list)
        #expect(initiator.answers[again] == nil)
        keeper.finish()
        initiator.collect()
        #expect(initiator.answers[again]?.status == .good)
        #expect(Self.reserveIn(initiator, 0)[3] == 2)
    }

    @Test("are dropped with their command when the disk goes first")
    func removed() throws {
        let keeper = MemoryKeeper()
        let initiator = Initiator(keeper: keeper)
        let list = [UInt8](repeating: 0, count: 15) + [0xA1] + [UInt8](repeating: 0, count: 8)
        let register = initiator.start([0x5F, 0, 0, 0, 0, 0, 0, 0, 24, 0], out: list)
        initiator.bus.detach(target: 0, lun: try #require(LUN(0)))
        initiator.disk.close()
        initiator.collect()
        #expect(initiator.answers[register]?.response == .targetFailure)
        keeper.finish()
    }

    @Test("are all registrants' reservation although who reserved has left")
    func allRegistrants() {
        let keeper = MemoryKeeper()
        let initiator = Self.initiator(keeper)
        _ = Self.out(initiator, 0, new: 0xA1)
        _ = Self.out(initiator, 0, new: 0xB2, to: Self.second)
        _ = Self.out(initiator, 1, key: 0xA1, type: 7)
        _ = Self.out(initiator, 0, key: 0xA1, new: 0)
        #expect(Self.reserveIn(Self.initiator(keeper), 1).suffix(4) == [0, 7, 0, 0])
    }

    @Test("are read from the file of an older service")
    func older() throws {
        let text = """
            vhostd disk state 1
            modes 1 0 1
            registration a1 1 74657374
            reservation 1 0

            """
        let sum = text.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { sum, byte in
            (sum ^ UInt64(byte)) &* 0x100_0000_01B3
        }
        let bytes = Array((text + "end \(String(sum, radix: 16))\n").utf8)
        let initiator = Self.initiator(MemoryKeeper(bytes))
        #expect(
            Self.reserveIn(initiator, 1) == [
                0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xA1, 0, 0, 0, 0, 0, 1, 0, 0,
            ])
        #expect(initiator.send([0xFF, 0, 0, 0, 0, 0]).sense.first == 0x72)
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
        func load(_ bytes: [UInt8]) throws {
            _ = try MemoryKeeper(bytes).open()
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
