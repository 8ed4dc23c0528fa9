// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import SCSI
import Stores
import Testing

@Suite("INQUIRY")
struct InquiryTests {
    @Test("returns 96 bytes of standard data (SPC-4)")
    func standard() {
        let answer = Initiator().send([0x12, 0, 0, 0, 255, 0], in: 255)
        #expect(answer.status == .good)
        #expect(
            answer.data == [
                0x00, 0x00, 0x06, 0x12, 0x5B, 0x08, 0x00, 0x02,
            ] + Array("ACME    Test Disk       0001".utf8) + [UInt8](repeating: 0, count: 22) + [
                0x00, 0xA0, 0x04, 0x60, 0x04, 0xC0,
            ] + [UInt8](repeating: 0, count: 32))
        #expect(answer.residual == 159)
    }

    @Test("is cut off at the allocation length", arguments: [0, 5, 36, 95, 96])
    func allocationLength(length: Int) {
        let answer = Initiator().send([0x12, 0, 0, 0, UInt8(length), 0], in: 255)
        #expect(answer.data.count == length)
        #expect(answer.residual == 255 - length)
    }

    @Test("lists the vital product data pages in ascending order")
    func supportedPages() {
        let answer = Initiator().send([0x12, 1, 0, 0, 255, 0], in: 255)
        #expect(answer.data == [0, 0, 0, 7, 0x00, 0x80, 0x83, 0x86, 0xB0, 0xB1, 0xB2])
    }

    @Test("gives the serial number")
    func serialNumber() {
        let answer = Initiator().send([0x12, 1, 0x80, 0, 255, 0], in: 255)
        #expect(answer.data == [0, 0x80, 0, 4] + Array("SN42".utf8))
    }

    @Test("identifies the unit by NAA and T10 vendor id, and the port")
    func deviceIdentification() {
        let answer = Initiator().send([0x12, 1, 0x83, 0, 255, 0], in: 255)
        #expect(
            answer.data == [0, 0x83, 0, 52]
                + [0x01, 0x03, 0, 8, 0x30, 1, 2, 3, 4, 5, 6, 7]
                + [0x02, 0x01, 0, 28] + Array("ACME    Test Disk       SN42".utf8)
                + [0x01, 0x14, 0, 4, 0, 0, 0, 1])
    }

    @Test("describes the block limits")
    func blockLimits() {
        let answer = Initiator().send([0x12, 1, 0xB0, 0, 255, 0], in: 255)
        #expect(
            answer.data == [
                0, 0xB0, 0, 0x3C, 0x01, 0xFF, 0, 1, 0, 0, 0xFF, 0xF8, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF,
            ] + [UInt8](repeating: 0, count: 20))
    }

    @Test("describes the limits of blocks of 4096 bytes, and of what the medium likes")
    func otherBlockLimits() {
        let long = Initiator(blockSize: 4096).send([0x12, 1, 0xB0, 0, 255, 0], in: 255)
        #expect(
            Array(long.data[4..<36]) == [
                0x01, 0xFF, 0, 1, 0, 0, 0x1F, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0x80, 0, 0, 0,
            ])
        let initiator = Initiator(isThin: false)
        initiator.store.geometry.physicalBlockSize = 4096
        initiator.store.geometry.optimalTransferSize = 1 << 20
        initiator.disk.refreshGeometry(on: initiator.bus)
        let emulated = initiator.send([0x12, 1, 0xB0, 0, 255, 0], in: 255)
        #expect(
            Array(emulated.data[4..<36]) == [
                0x01, 0xFF, 0, 8, 0, 0, 0xFF, 0xF8, 0, 0, 8, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ])
    }

    @Test("says which task attributes there are, and that there is a volatile cache")
    func extended() {
        let answer = Initiator().send([0x12, 1, 0x86, 0, 255, 0], in: 255)
        #expect(
            answer.data == [0, 0x86, 0, 0x3C, 0, 0x07, 0x01] + [UInt8](repeating: 0, count: 57))
    }

    @Test("does not say of a medium that turns that it does not")
    func rotational() {
        let initiator = Initiator(isThin: false)
        initiator.store.geometry.isRotational = true
        initiator.disk.refreshGeometry(on: initiator.bus)
        let answer = initiator.send([0x12, 1, 0xB1, 0, 255, 0], in: 255)
        #expect(answer.data == [0, 0xB1, 0, 0x3C] + [UInt8](repeating: 0, count: 60))
    }

    @Test("describes the block device as one that does not turn")
    func characteristics() {
        let answer = Initiator().send([0x12, 1, 0xB1, 0, 255, 0], in: 255)
        #expect(
            answer.data == [0, 0xB1, 0, 0x3C, 0, 1, 0, 0x40] + [UInt8](repeating: 0, count: 56))
    }

    @Test("describes the provisioning", arguments: [true, false])
    func provisioning(isThin: Bool) {
        let answer = Initiator(isThin: isThin).send([0x12, 1, 0xB2, 0, 255, 0], in: 255)
        #expect(answer.data == [0, 0xB2, 0, 4] + (isThin ? [0, 0xE4, 2, 0] : [0, 0, 0, 0]))
    }

    @Test("refuses a page code without EVPD, and pages that are not there (5/24/00)")
    func illegalFields() {
        let initiator = Initiator()
        #expect(initiator.send([0x12, 0, 0x80, 0, 255, 0], in: 255).fixedSense == [5, 0x24, 0])
        #expect(initiator.send([0x12, 1, 0x99, 0, 255, 0], in: 255).fixedSense == [5, 0x24, 0])
        let answer = initiator.send([0x12, 2, 0, 0, 255, 0], in: 255)
        #expect(answer.fixedSense == [5, 0x24, 0])
        #expect(Array(answer.sense[15..<18]) == [0xC9, 0, 1], "field pointer: byte 1, bit 1")
    }

    @Test("is answered with the unit's number in the CDB, as SCSI-2 has it", arguments: 0...7)
    func legacyLUN(number: UInt8) {
        let bits = number << 5
        let initiator = Initiator()
        let plain = initiator.send([0x12, 0, 0, 0, 36, 0], in: 36)
        #expect(plain.status == .good)
        #expect(initiator.send([0x12, bits, 0, 0, 36, 0], in: 36).data == plain.data)
        let page = initiator.send([0x12, bits | 1, 0xB1, 0, 255, 0], in: 255)
        #expect(page.status == .good && page.data[1] == 0xB1)
        let absent = LUNAddress(rawValue: 0x0500_0001)
        let answer = initiator.send([0x12, bits, 0, 0, 36, 0], in: 36, to: absent)
        #expect(answer.status == .good && answer.data.first == 0x7F)
        #expect(initiator.send([0, bits, 0, 0, 0, 0]).status == .good)
        #expect(initiator.send([0x03, bits, 0, 0, 18, 0], in: 18).status == .good)
        // SEND DIAGNOSTIC has the self-test code there.
        if number > 0 {
            #expect(initiator.send([0x1D, bits, 0, 0, 0, 0]).fixedSense == [5, 0x24, 0])
        }
    }

    @Test("of an absent unit says qualifier 3 and type 1Fh")
    func absentUnit() {
        let address = LUNAddress(rawValue: 0x0500_0001)
        let answer = Initiator().send([0x12, 0, 0, 0, 36, 0], in: 36, to: address)
        #expect(answer.status == .good)
        #expect(answer.data.first == 0x7F)
        #expect(
            Initiator().send([0, 0, 0, 0, 0, 0], to: address).fixedSense == [5, 0x25, 0])
    }
}
