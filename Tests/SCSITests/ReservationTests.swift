// SPDX-License-Identifier: Apache-2.0

import SCSI
import Stores
import Testing

@Suite("Reservations")
struct ReservationTests {
    /// One disk at two targets: two nexuses.
    struct Pair {
        let initiator = Initiator()

        init() {
            initiator.attach(initiator.disk, target: 1, lun: 0)
        }

        func address(_ nexus: Int) -> LUNAddress {
            LUNAddress(rawValue: 1 | UInt64(nexus) << 8)
        }

        func send(
            _ nexus: Int, _ cdb: [UInt8], out: [UInt8]? = nil, in count: Int = 0
        ) -> Initiator.Answer {
            initiator.send(cdb, out: out, in: count, to: address(nexus))
        }

        /// PERSISTENT RESERVE OUT.
        func out(
            _ nexus: Int, _ action: UInt8, key: UInt64 = 0, new: UInt64 = 0, type: UInt8 = 0
        ) -> Initiator.Answer {
            func bytes(_ key: UInt64) -> [UInt8] {
                (0..<8).map { UInt8(truncatingIfNeeded: key >> (56 - 8 * $0)) }
            }
            return send(
                nexus, [0x5F, action, type, 0, 0, 0, 0, 0, 24, 0],
                out: bytes(key) + bytes(new) + [UInt8](repeating: 0, count: 8))
        }

        /// PERSISTENT RESERVE IN.
        func reserveIn(_ nexus: Int, _ action: UInt8) -> [UInt8] {
            send(nexus, [0x5E, action, 0, 0, 0, 0, 0, 1, 0, 0], in: 256).data
        }
    }

    static let types: [UInt8] = [1, 3, 5, 6, 7, 8]
    static let read: [UInt8] = [0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0]
    static let write: [UInt8] = [0x2A, 0, 0, 0, 0, 5, 0, 0, 1, 0]

    @Test("read back the keys, the reservation and the generation")
    func reading() {
        let pair = Pair()
        #expect(pair.reserveIn(0, 0) == [0, 0, 0, 0, 0, 0, 0, 0])
        #expect(pair.out(0, 0, new: 0xA1).status == .good)
        #expect(pair.out(1, 6, key: 99, new: 0xB2).status == .good)
        #expect(
            pair.reserveIn(1, 0) == [
                0, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xA1, 0, 0, 0, 0, 0, 0, 0, 0xB2,
            ])
        #expect(pair.reserveIn(0, 1) == [0, 0, 0, 2, 0, 0, 0, 0])
        #expect(pair.out(0, 1, key: 0xA1, type: 5).status == .good)
        #expect(
            pair.reserveIn(1, 1) == [
                0, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xA1, 0, 0, 0, 0, 0, 5, 0, 0,
            ])
        #expect(pair.reserveIn(0, 2) == [0, 8, 0, 0x80, 0xEA, 0x01, 0, 0])
        let status = pair.reserveIn(0, 3)
        #expect(status.count == 8 + 2 * (24 + 24))
        #expect(
            Array(status[8..<32]) == [
                0, 0, 0, 0, 0, 0, 0, 0xA1, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 1, 0, 0, 0, 24,
            ])
        #expect(Array(status[32..<40]) == [5, 0, 0, 20] + Array("test".utf8))
    }

    @Test("refuse a wrong key")
    func wrongKey() {
        let pair = Pair()
        #expect(pair.out(0, 0, key: 5, new: 6).status == .reservationConflict)
        #expect(pair.out(0, 0, new: 6).status == .good)
        #expect(pair.out(0, 0, key: 5, new: 7).status == .reservationConflict)
        for action: UInt8 in 1...5 {
            #expect(pair.out(0, action, key: 5, type: 1).status == .reservationConflict)
            #expect(pair.out(1, action, key: 6, type: 1).status == .reservationConflict)
        }
    }

    @Test("refuse a wrong length, type, scope and SPEC_I_PT")
    func refusals() {
        let pair = Pair()
        let short = pair.send(
            0, [0x5F, 0, 0, 0, 0, 0, 0, 0, 23, 0], out: [UInt8](repeating: 0, count: 23))
        #expect(short.fixedSense == [5, 0x1A, 0])
        _ = pair.out(0, 0, new: 6)
        #expect(pair.out(0, 1, key: 6, type: 2).fixedSense == [5, 0x24, 0])
        #expect(pair.out(0, 1, key: 6, type: 0x11).fixedSense == [5, 0x24, 0])
        var list = [UInt8](repeating: 0, count: 24)
        list[20] = 0x08
        let cdb: [UInt8] = [0x5F, 0, 0, 0, 0, 0, 0, 0, 24, 0]
        #expect(pair.send(1, cdb, out: list).fixedSense == [5, 0x26, 0])
        // ALL_TG_PT, and APTPL where nothing is kept.
        for bit: UInt8 in [0x04, 0x01] {
            list[20] = bit
            #expect(pair.send(1, cdb, out: list).fixedSense == [5, 0x26, 0])
        }
        #expect(pair.send(0, [0x5E, 4, 0, 0, 0, 0, 0, 0, 8, 0], in: 8).fixedSense == [5, 0x24, 0])
        #expect(
            pair.send(0, [0x5F, 8, 0, 0, 0, 0, 0, 0, 24, 0], out: list).fixedSense == [5, 0x24, 0])
    }

    /// Whether a nexus that does not hold the reservation may read and write, unregistered and
    /// registered (SPC-4, Persistent reservation types).
    static let access: [UInt8: (read: [Bool], write: [Bool])] = [
        1: ([true, true], [false, false]), 3: ([false, false], [false, false]),
        5: ([true, true], [false, true]), 6: ([false, true], [false, true]),
        7: ([true, true], [false, true]), 8: ([false, true], [false, true]),
    ]

    @Test("keep out whom the type says", arguments: types)
    func accessTable(type: UInt8) throws {
        let pair = Pair()
        let expected = try #require(Self.access[type])
        let block = [UInt8](repeating: 0, count: 512)
        _ = pair.out(0, 0, new: 1)
        #expect(pair.out(0, 1, key: 1, type: type).status == .good)
        for registered in [0, 1] {
            if registered == 1 { _ = pair.out(1, 0, new: 2) }
            let read = pair.send(1, Self.read, in: 512)
            #expect(read.status == (expected.read[registered] ? .good : .reservationConflict))
            let write = pair.send(1, Self.write, out: block)
            #expect(write.status == (expected.write[registered] ? .good : .reservationConflict))
            #expect(pair.send(0, Self.write, out: block).status == .good, "the holder may")
            #expect(pair.send(1, [0, 0, 0, 0, 0, 0]).status == .good, "TEST UNIT READY is allowed")
        }
    }

    @Test("end with the holder's registration, and the others are told", arguments: types)
    func unregister(type: UInt8) {
        let pair = Pair()
        _ = pair.out(0, 0, new: 1)
        _ = pair.out(1, 0, new: 2)
        _ = pair.out(0, 1, key: 1, type: type)
        #expect(pair.out(0, 0, key: 1, new: 0).status == .good)
        let isShared = type >= 7
        let ready = pair.send(1, [0, 0, 0, 0, 0, 0])
        if type == 5 || type == 6 {
            #expect(ready.fixedSense == [6, 0x2A, 4])
        } else {
            #expect(ready.status == .good)
        }
        #expect(pair.send(0, [0, 0, 0, 0, 0, 0]).status == .good, "who did it is not told")
        #expect(pair.reserveIn(0, 1).count == (isShared ? 24 : 8))
        if isShared {
            #expect(pair.out(1, 2, key: 2, type: type).status == .good)
            #expect(pair.reserveIn(0, 1).count == 8)
        }
    }

    @Test("are released by their holder with the right type alone (5/26/04)")
    func release() {
        let pair = Pair()
        _ = pair.out(0, 0, new: 1)
        _ = pair.out(1, 0, new: 2)
        _ = pair.out(0, 1, key: 1, type: 5)
        #expect(pair.out(1, 2, key: 2, type: 5).status == .good, "not the holder: no change")
        #expect(pair.out(0, 2, key: 1, type: 6).fixedSense == [5, 0x26, 4])
        #expect(pair.out(0, 1, key: 1, type: 5).status == .good, "again")
        #expect(pair.out(0, 1, key: 1, type: 6).status == .reservationConflict)
        #expect(pair.out(1, 1, key: 2, type: 5).status == .reservationConflict)
        #expect(pair.out(0, 2, key: 1, type: 5).status == .good)
        #expect(pair.send(1, [0, 0, 0, 0, 0, 0]).fixedSense == [6, 0x2A, 4])
        #expect(pair.reserveIn(0, 1) == [0, 0, 0, 2, 0, 0, 0, 0], "the generation stays")
    }

    @Test("are preempted with the registration of their holder")
    func preempt() {
        let pair = Pair()
        _ = pair.out(0, 0, new: 1)
        _ = pair.out(1, 0, new: 2)
        _ = pair.out(0, 1, key: 1, type: 1)
        #expect(pair.out(1, 4, key: 2, new: 1, type: 3).status == .good)
        #expect(pair.send(0, [0, 0, 0, 0, 0, 0]).fixedSense == [6, 0x2A, 5])
        #expect(
            pair.reserveIn(1, 1) == [
                0, 0, 0, 3, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 3, 0, 0,
            ])
        #expect(pair.reserveIn(1, 0).count == 16)
        #expect(pair.out(1, 4, key: 2, new: 77, type: 3).status == .reservationConflict)
    }

    @Test("are kept by PREEMPT of another's registration, which 0 does not name (5/26/00)")
    func preemptRegistration() {
        let pair = Pair()
        for nexus in 0...1 { _ = pair.out(nexus, 0, new: UInt64(nexus) + 1) }
        #expect(pair.out(1, 4, key: 2, new: 0, type: 1).fixedSense == [5, 0x26, 0])
        #expect(pair.out(1, 4, key: 2, new: 1, type: 1).status == .good)
        #expect(pair.send(0, [0, 0, 0, 0, 0, 0]).fixedSense == [6, 0x2A, 5])
        #expect(
            pair.reserveIn(1, 0) == [0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2])
        #expect(pair.reserveIn(1, 1).count == 8, "nobody has reserved")
    }

    @Test("of all registrants are preempted by key 0", arguments: [7, 8] as [UInt8])
    func preemptAll(type: UInt8) {
        let pair = Pair()
        for nexus in 0...1 { _ = pair.out(nexus, 0, new: UInt64(nexus) + 1) }
        _ = pair.out(0, 1, key: 1, type: type)
        #expect(pair.out(1, 4, key: 2, new: 0, type: 3).status == .good)
        #expect(pair.send(0, [0, 0, 0, 0, 0, 0]).fixedSense == [6, 0x2A, 5])
        #expect(
            pair.reserveIn(1, 1) == [
                0, 0, 0, 3, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 3, 0, 0,
            ])
        #expect(pair.reserveIn(1, 0).count == 16)
    }

    @Test("that change their type by PREEMPT are released for the other registrants (6/2A/04)")
    func preemptToOtherType() {
        let pair = Pair()
        pair.initiator.attach(pair.initiator.disk, target: 2, lun: 0)
        for nexus in 0...2 { _ = pair.out(nexus, 0, new: UInt64(nexus) + 1) }
        _ = pair.out(0, 1, key: 1, type: 5)
        #expect(pair.out(1, 4, key: 2, new: 1, type: 6).status == .good)
        #expect(pair.send(0, [0, 0, 0, 0, 0, 0]).fixedSense == [6, 0x2A, 5])
        #expect(pair.send(1, [0, 0, 0, 0, 0, 0]).status == .good)
        #expect(pair.send(2, [0, 0, 0, 0, 0, 0]).fixedSense == [6, 0x2A, 4])
    }

    @Test("are preempted with the commands of their holder")
    func preemptAndAbort() {
        let pair = Pair()
        _ = pair.out(0, 0, new: 1)
        _ = pair.out(1, 0, new: 2)
        _ = pair.out(0, 1, key: 1, type: 1)
        let victim = pair.initiator.start(Self.read, in: 512, to: pair.address(0))
        #expect(pair.out(1, 5, key: 2, new: 1, type: 1).status == .good)
        #expect(pair.initiator.answers[victim]?.response == .aborted)
    }

    @Test("are cleared with every registration")
    func clear() {
        let pair = Pair()
        _ = pair.out(0, 0, new: 1)
        _ = pair.out(1, 0, new: 2)
        _ = pair.out(0, 1, key: 1, type: 8)
        #expect(pair.out(1, 3, key: 2).status == .good)
        #expect(pair.send(0, [0, 0, 0, 0, 0, 0]).fixedSense == [6, 0x2A, 3])
        #expect(pair.reserveIn(0, 0) == [0, 0, 0, 3, 0, 0, 0, 0])
        #expect(pair.reserveIn(0, 1).count == 8)
    }

    @Test("move to another nexus")
    func move() {
        let pair = Pair()
        _ = pair.out(0, 0, new: 1)
        _ = pair.out(0, 1, key: 1, type: 1)
        let id: [UInt8] = [5, 0, 0, 20] + Array("test".utf8) + [UInt8](repeating: 0, count: 16)
        let list: [UInt8] =
            [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 0, 2, 0, 0, 0, 24] + id
        let cdb: [UInt8] = [0x5F, 7, 0, 0, 0, 0, 0, 0, 48, 0]
        #expect(pair.send(0, cdb, out: list).status == .good)
        #expect(pair.reserveIn(1, 0) == [0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9])
        #expect(
            pair.send(0, Self.write, out: [UInt8](repeating: 0, count: 512)).status
                == .reservationConflict)
    }

    @Test("of SPC-2 are made by RESERVE (10), too, and exclude those of SPC-4")
    func reserve10() {
        let pair = Pair()
        let nothing = [UInt8](repeating: 0, count: 9)
        #expect(pair.send(0, [0x56] + nothing).status == .good)
        #expect(pair.send(1, [0x16, 0, 0, 0, 0, 0]).status == .reservationConflict)
        #expect(pair.send(1, [0, 0, 0, 0, 0, 0]).status == .reservationConflict)
        #expect(pair.out(0, 0, new: 1).status == .reservationConflict)
        #expect(pair.send(1, [0x57] + nothing).status == .good, "which changes nothing")
        #expect(pair.send(1, [0, 0, 0, 0, 0, 0]).status == .reservationConflict)
        #expect(pair.send(0, [0x57] + nothing).status == .good)
        #expect(pair.send(1, [0, 0, 0, 0, 0, 0]).status == .good)
        #expect(pair.out(0, 0, new: 1).status == .good)
        #expect(pair.send(1, [0x56] + nothing).status == .reservationConflict)
    }

    @Test("of SPC-2 keep every other nexus out until released, reset or lost")
    func reserve6() {
        let pair = Pair()
        let reserve: [UInt8] = [0x16, 0, 0, 0, 0, 0]
        let release: [UInt8] = [0x17, 0, 0, 0, 0, 0]
        let modeSense: [UInt8] = [0x1A, 0, 0x3F, 0, 64, 0]
        #expect(pair.send(0, reserve).status == .good)
        #expect(pair.send(1, reserve).status == .reservationConflict)
        #expect(pair.send(1, modeSense, in: 64).status == .reservationConflict)
        #expect(pair.send(1, [0x12, 0, 0, 0, 36, 0], in: 36).status == .good)
        #expect(pair.send(1, release).status == .good, "which changes nothing")
        #expect(pair.send(1, modeSense, in: 64).status == .reservationConflict)
        #expect(pair.send(0, release).status == .good)
        #expect(pair.send(1, modeSense, in: 64).status == .good)
        for function in [TaskManagementFunction.logicalUnitReset, .iTNexusReset] {
            #expect(pair.send(0, reserve).status == .good)
            #expect(pair.initiator.manage(function) == .functionComplete)
            for nexus in 0...1 { _ = pair.send(nexus, [3, 0, 0, 0, 18, 0], in: 18) }
            #expect(pair.send(1, modeSense, in: 64).status == .good)
        }
    }
}
