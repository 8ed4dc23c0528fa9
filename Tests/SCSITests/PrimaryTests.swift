// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import SCSI
import Stores
import Testing

@Suite("The table of operations")
struct OperationTableTests {
    /// Every descriptor of REPORT SUPPORTED OPERATION CODES: code, service action if any, CDB size.
    static func all(_ initiator: Initiator) -> [(UInt8, UInt8?, Int)] {
        let answer = initiator.send([0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0], in: 4096)
        return stride(from: 4, to: answer.data.count, by: 8).map { start in
            let descriptor = Array(answer.data[start..<start + 8])
            return (
                descriptor[0], descriptor[5] & 1 != 0 ? descriptor[3] : nil,
                Int(descriptor[7])
            )
        }
    }

    @Test("is what REPORT SUPPORTED OPERATION CODES reports, and every row can be called")
    func everyRow() {
        let rows = Self.all(Initiator())
        #expect(rows.count > 50)
        for (code, action, size) in rows {
            let initiator = Initiator()
            var cdb = [UInt8](repeating: 0, count: size)
            cdb[0] = code
            cdb[1] = action ?? 0
            let answer = initiator.send(cdb, in: 4096)
            #expect(answer.fixedSense != [5, 0x20, 0], "operation code \(code)")
            #expect(size == (code < 0x20 ? 6 : code < 0x60 ? 10 : code < 0xA0 ? 16 : 12))
        }
    }

    @Test("gives the usage of one CDB")
    func usage() {
        let initiator = Initiator()
        let read = initiator.send([0xA3, 0x0C, 1, 0x28, 0, 0, 0, 0, 0, 64, 0, 0], in: 64)
        #expect(
            read.data == [0, 3, 0, 10, 0x28, 0x1A, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F, 0xFF, 0xFF, 0])
        let capacity = initiator.send([0xA3, 0x0C, 0x82, 0x9E, 0, 0x10, 0, 0, 0, 64, 0, 0], in: 64)
        #expect(Array(capacity.data[..<6]) == [0, 0x83, 0, 16, 0x9E, 0x10])
        #expect(Array(capacity.data[20...]) == [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        // Reporting option 011b: with or without a service action.
        let either = initiator.send([0xA3, 0x0C, 3, 0x28, 0, 0, 0, 0, 0, 64, 0, 0], in: 64)
        #expect(either.data == read.data)
        let action = initiator.send([0xA3, 0x0C, 3, 0x9E, 0, 0x10, 0, 0, 0, 64, 0, 0], in: 64)
        #expect(Array(action.data[..<6]) == [0, 3, 0, 16, 0x9E, 0x10])
        let other = initiator.send([0xA3, 0x0C, 3, 0x9E, 0, 0x1F, 0, 0, 0, 64, 0, 0], in: 64)
        #expect(other.data == [0, 1, 0, 0])
        let absent = initiator.send([0xA3, 0x0C, 1, 0xFE, 0, 0, 0, 0, 0, 64, 0, 0], in: 64)
        #expect(absent.data == [0, 1, 0, 0])
        for cdb: [UInt8] in [
            [0xA3, 0x0C, 1, 0x9E, 0, 0x10, 0, 0, 0, 64, 0, 0],
            [0xA3, 0x0C, 2, 0x28, 0, 0, 0, 0, 0, 64, 0, 0],
            [0xA3, 0x0C, 4, 0x28, 0, 0, 0, 0, 0, 64, 0, 0],
        ] { #expect(initiator.send(cdb, in: 64).fixedSense == [5, 0x24, 0]) }
    }

    @Test("refuses each bit that means nothing, by its place")
    func reservedBits() {
        let initiator = Initiator()
        let ready = initiator.send([0, 0, 0x20, 0, 0, 0])
        #expect(ready.fixedSense == [5, 0x24, 0])
        #expect(Array(ready.sense[15..<18]) == [0xCD, 0, 2])
        let control = initiator.send([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 4], in: 512)
        #expect(Array(control.sense[15..<18]) == [0xCA, 0, 9])
    }

    @Test("does not have other operation codes (5/20/00), nor service actions (5/24/00)")
    func unknown() {
        let initiator = Initiator()
        let known = Set(Self.all(initiator).map(\.0))
        for code: UInt8 in 0...255 where !known.contains(code) {
            let answer = initiator.send([code] + [UInt8](repeating: 0, count: 31), in: 64)
            #expect(answer.fixedSense == [5, 0x20, 0], "operation code \(code)")
        }
        #expect(
            initiator.send([0x9E, 0x1F] + [UInt8](repeating: 0, count: 14)).fixedSense == [
                5, 0x24, 0,
            ])
    }

    @Test("reports the task management functions")
    func taskManagement() {
        let initiator = Initiator()
        let cdb: [UInt8] = [0xA3, 0x0D, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0]
        #expect(initiator.send(cdb, in: 64).data == [0xDC, 0x03, 0, 0])
    }
}

@Suite("Mode pages")
struct ModeTests {
    static let caching: [UInt8] = [0x08, 18, 4] + [UInt8](repeating: 0, count: 17)

    @Test("are read whole and one by one, current, changeable and default")
    func sense() {
        let initiator = Initiator()
        let all = initiator.send([0x1A, 0, 0x3F, 0, 255, 0], in: 255)
        #expect(all.data.count == 4 + 8 + 12 + 20 + 12 + 12)
        #expect(all.residual == 255 - 68)
        #expect(Array(all.data[..<12]) == [67, 0, 0x10, 8, 0, 0, 8, 0, 0, 0, 2, 0])
        #expect(Array(all.data[24..<44]) == Self.caching)
        let changeable = initiator.send([0x1A, 8, 0x4A, 0, 255, 0], in: 255)
        #expect(changeable.data == [15, 0, 0x10, 0, 0x0A, 10, 4, 0, 8, 0, 0, 0, 0, 0, 0, 0])
        let long = initiator.send([0x5A, 0x10, 0x88, 0, 0, 0, 0, 0, 255, 0], in: 255)
        #expect(
            long.data == [
                0, 42, 0, 0x10, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0,
            ]
                + Self.caching)
    }

    @Test("of error recovery and of exceptions say what never changes; none has subpages")
    func constantPages() {
        let initiator = Initiator()
        let recovery = initiator.send([0x1A, 8, 0x01, 0, 255, 0], in: 255)
        #expect(recovery.data == [15, 0, 0x10, 0, 0x01, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        let exceptions = initiator.send([0x1A, 8, 0x1C, 0, 255, 0], in: 255)
        #expect(exceptions.data == [15, 0, 0x10, 0, 0x1C, 10, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        let all = initiator.send([0x1A, 8, 0x3F, 0, 255, 0], in: 255)
        #expect(initiator.send([0x1A, 8, 0x3F, 0xFF, 255, 0], in: 255).data == all.data)
    }

    @Test("that are not there, or saved, are refused")
    func refusals() {
        let initiator = Initiator()
        #expect(initiator.send([0x1A, 0, 0x02, 0, 255, 0], in: 255).fixedSense == [5, 0x24, 0])
        #expect(initiator.send([0x1A, 0, 0x08, 1, 255, 0], in: 255).fixedSense == [5, 0x24, 0])
        #expect(initiator.send([0x1A, 0, 0xC8, 0, 255, 0], in: 255).fixedSense == [5, 0x39, 0])
    }

    @Test("say that a disk is read-only")
    func readOnly() {
        let answer = Initiator(isReadOnly: true).send([0x1A, 8, 0x3F, 0, 4, 0], in: 4)
        #expect(answer.data == [59, 0, 0x90, 0])
    }

    @Test("disable the write cache, after which writes are durable")
    func writeCache() {
        let initiator = Initiator()
        var page = Self.caching
        page[2] = 0
        let select = initiator.send([0x15, 0x10, 0, 0, 24, 0], out: [0, 0, 0, 0] + page)
        #expect(select.status == .good)
        initiator.send([0x2A, 0, 0, 0, 0, 5, 0, 0, 1, 0], out: [UInt8](repeating: 0, count: 512))
        #expect(initiator.store.log.map(\.operation) == [.flush, .write(isDurable: true)])
        #expect(initiator.send([0x1A, 8, 8, 0, 24, 0], in: 24).data == [23, 0, 0x10, 0] + page)
    }

    @Test("protect from writes, and change the format of sense data")
    func control() {
        let initiator = Initiator()
        initiator.attach(initiator.disk, target: 1, lun: 0)
        let page: [UInt8] = [0x0A, 10, 4, 0x10, 8, 0, 0, 0, 0xFF, 0xFF, 0, 0]
        let list = [0, 0, 0, 0, 0, 0, 0, 0] + page
        #expect(initiator.send([0x55, 0x10, 0, 0, 0, 0, 0, 0, 20, 0], out: list).status == .good)
        let write = initiator.send(
            [0x2A, 0, 0, 0, 0, 5, 0, 0, 1, 0], out: [UInt8](repeating: 0, count: 512))
        #expect(write.sense == [0x72, 7, 0x27, 0, 0, 0, 0, 0])
        let illegal = initiator.send([0x12, 2, 0, 0, 36, 0], in: 36)
        #expect(illegal.sense == [0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xC9, 0, 1, 0])
        let other = initiator.send([0, 0, 0, 0, 0, 0], to: LUNAddress(rawValue: 0x0101))
        #expect(other.sense == [0x72, 6, 0x2A, 1, 0, 0, 0, 0], "the other nexus is told")
    }

    @Test("are not changed where they must not be (5/26/00 with the byte)")
    func illegalSelect() {
        let initiator = Initiator()
        var page = Self.caching
        page[3] = 1
        let answer = initiator.send([0x15, 0x10, 0, 0, 24, 0], out: [0, 0, 0, 0] + page)
        #expect(answer.fixedSense == [5, 0x26, 0])
        #expect(Array(answer.sense[15..<18]) == [0x88, 0, 7])
        let cut = initiator.send([0x15, 0x10, 0, 0, 20, 0], out: [0, 0, 0, 0] + page[..<16])
        #expect(cut.fixedSense == [5, 0x1A, 0])
        let saved = initiator.send([0x15, 0x11, 0, 0, 24, 0], out: [0, 0, 0, 0] + Self.caching)
        #expect(saved.fixedSense == [5, 0x24, 0])
    }
}

@Suite("A disk")
struct DiskTests {
    @Test("reports its capacity, physical block size and provisioning")
    func capacity() {
        let initiator = Initiator(blockCount: 2048)
        initiator.store.geometry.physicalBlockSize = 4096
        initiator.disk.refreshGeometry(on: initiator.bus)
        #expect(
            initiator.send([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], in: 8).data == [
                0, 0, 7, 0xFF, 0, 0, 2, 0,
            ])
        let long: [UInt8] = [0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]
        #expect(
            initiator.send(long, in: 32).data == [
                0, 0, 0, 0, 0, 0, 7, 0xFF, 0, 0, 2, 0, 0, 3, 0xC0, 0,
            ] + [UInt8](repeating: 0, count: 16))
    }

    @Test("works with blocks of 4096 bytes")
    func fourKilobyteBlocks() {
        let initiator = Initiator(blockSize: 4096, blockCount: 100)
        let data = [UInt8](repeating: 9, count: 4096)
        #expect(initiator.send([0x2A, 0, 0, 0, 0, 99, 0, 0, 1, 0], out: data).status == .good)
        #expect(initiator.store[99] == data)
        #expect(
            initiator.send([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], in: 8).data == [
                0, 0, 0, 99, 0, 0, 16, 0,
            ])
    }

    @Test("says power-on first, with other conditions after it in order (6/29/00, 6/2A/09)")
    func unitAttentions() {
        let initiator = Initiator()
        initiator.bus.initiatorReset()
        initiator.store.geometry.blockCount += 1
        initiator.disk.refreshGeometry(on: initiator.bus)
        let ready: [UInt8] = [0, 0, 0, 0, 0, 0]
        #expect(initiator.send([0x12, 0, 0, 0, 36, 0], in: 36).status == .good)
        #expect(initiator.send([0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], in: 16).status == .good)
        #expect(initiator.send(ready).fixedSense == [6, 0x29, 0])
        let sense = initiator.send([3, 0, 0, 0, 18, 0], in: 18).data
        #expect([sense[2], sense[12], sense[13]] == [6, 0x2A, 9])
        #expect(initiator.send(ready).status == .good)
        let nothing = initiator.send([3, 1, 0, 0, 18, 0], in: 18).data
        #expect(nothing == [0x72, 0, 0, 0, 0, 0, 0, 0])
    }

    @Test("flushes, with IMMED too, and reports a failure (3/0C/00)")
    func flush() {
        let initiator = Initiator()
        for cdb: [UInt8] in [
            [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0x35, 2, 0, 0, 0, 5, 0, 0, 1, 0],
            [0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0x1B, 0, 0, 0, 0, 0],
        ] { #expect(initiator.send(cdb).status == .good) }
        #expect(initiator.store.log.map(\.operation) == [.flush, .flush, .flush, .flush])
        let beyond: [UInt8] = [0x35, 0, 0, 0, 8, 0, 0, 0, 1, 0]
        #expect(initiator.send(beyond).fixedSense == [5, 0x21, 0])
        initiator.store.failure = { _ in .mediumError(goodByteCount: 0) }
        #expect(initiator.send([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]).fixedSense == [3, 0x0C, 0])
    }

    @Test("is listed with the others of its target, in the form that Linux compares with")
    func reportLUNs() throws {
        let initiator = Initiator()
        initiator.attach(initiator.disk, target: 0, lun: 255)
        initiator.attach(initiator.disk, target: 0, lun: 256)
        let cdb: [UInt8] = [0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
        let data = initiator.send(cdb, in: 256).data
        let zeroes = [UInt8](repeating: 0, count: 6)
        #expect(
            data == [0, 0, 0, 24, 0, 0, 0, 0] + [0, 0] + zeroes + [0, 255] + zeroes + [0x41, 0]
                + zeroes)
        let withWellKnown: [UInt8] = [0xA0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0]
        #expect(initiator.send(withWellKnown, in: 256).data.count == 40)
        let illegal: [UInt8] = [0xA0, 0, 0x10, 0, 0, 0, 0, 0, 1, 0, 0, 0]
        #expect(initiator.send(illegal, in: 256).fixedSense == [5, 0x24, 0])
    }

    @Test("leaves: its commands end, and its number answers as absent")
    func detach() throws {
        let initiator = Initiator()
        initiator.attach(initiator.disk, target: 0, lun: 3)
        let address = LUNAddress(rawValue: 0x0300_0001)
        let command = initiator.start([0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0], in: 512, to: address)
        let lun = try #require(LUN(3))
        #expect(initiator.bus.detach(target: 0, lun: lun))
        initiator.store.endAll()
        initiator.collect()
        #expect(initiator.answers[command]?.response == .targetFailure)
        #expect(initiator.send([0x12, 0, 0, 0, 36, 0], in: 36, to: address).data.first == 0x7F)
        #expect(initiator.send([0, 0, 0, 0, 0, 0]).fixedSense == [6, 0x3F, 0x0E])
    }
}

@Suite("A removable medium")
struct RemovableMediumTests {
    static let eject: [UInt8] = [0x1B, 0, 0, 0, 0x02, 0]
    static let load: [UInt8] = [0x1B, 0, 0, 0, 0x03, 0]
    static let testUnitReady: [UInt8] = [0x00, 0, 0, 0, 0, 0]

    @Test("is out of reach while it is ejected (2/3A/00)")
    func eject() {
        let initiator = Initiator(isRemovable: true)
        #expect(initiator.send([0x12, 0, 0, 0, 36, 0], in: 36).data[1] == 0x80)
        #expect(initiator.send(Self.eject).status == .good)
        #expect(initiator.send(Self.testUnitReady).fixedSense == [2, 0x3A, 0])
        #expect(
            initiator.send([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], in: 512).fixedSense == [2, 0x3A, 0])
        #expect(initiator.send([0x12, 0, 0, 0, 36, 0], in: 36).status == .good)
        #expect(initiator.send(Self.load).status == .good)
        #expect(initiator.send(Self.testUnitReady).status == .good)
    }

    @Test("is not moved while an initiator prevents it (5/53/02)")
    func prevent() {
        let initiator = Initiator(isRemovable: true)
        #expect(initiator.send([0x1E, 0, 0, 0, 1, 0]).status == .good)
        #expect(initiator.send(Self.eject).fixedSense == [5, 0x53, 0x02])
        #expect(initiator.send([0x1E, 0, 0, 0, 0, 0]).status == .good)
        #expect(initiator.send(Self.eject).status == .good)
        #expect(initiator.send([0x1E, 0, 0, 0, 1, 0]).status == .good)
        #expect(initiator.send(Self.load).fixedSense == [5, 0x53, 0x02])
        #expect(initiator.manage(.iTNexusReset) == .functionComplete)
        #expect(initiator.send(Self.testUnitReady).fixedSense == [6, 0x29, 0x07])
        #expect(initiator.send(Self.load).status == .good)
    }

    @Test("is news to the other initiators when it is loaded (6/28/00)")
    func changed() {
        let initiator = Initiator(isRemovable: true)
        let other = LUNAddress(rawValue: 0x0101)
        initiator.attach(initiator.disk, target: 1, lun: 0)
        initiator.send(Self.eject)
        initiator.send(Self.load)
        #expect(initiator.send(Self.testUnitReady).status == .good)
        #expect(initiator.send(Self.testUnitReady, to: other).fixedSense == [6, 0x28, 0])
    }

    @Test("is the only one that LOEJ may be used for")
    func fixed() {
        #expect(Initiator().send(Self.eject).fixedSense == [5, 0x24, 0])
    }
}
