// SPDX-License-Identifier: Apache-2.0

import SCSI
import Stores
import Testing

@Suite("LOG SENSE, SEND DIAGNOSTIC, READ DEFECT DATA and PRE-FETCH")
struct DiagnosticsTests {
    @Test("LOG SENSE lists its pages, and reports no informational exception")
    func logSense() {
        let initiator = Initiator()
        let pages = initiator.send([0x4D, 0, 0x40, 0, 0, 0, 0, 0, 255, 0], in: 255)
        #expect(pages.status == .good && pages.residual == 255 - 6)
        #expect(pages.data == [0x00, 0, 0, 2, 0x00, 0x2F])
        let subpages = initiator.send([0x4D, 0, 0x40, 0xFF, 0, 0, 0, 0, 255, 0], in: 255)
        #expect(subpages.data == [0x40, 0xFF, 0, 6, 0x00, 0, 0x00, 0xFF, 0x2F, 0])
        let exceptions = initiator.send([0x4D, 0, 0x6F, 0, 0, 0, 0, 0, 255, 0], in: 255)
        #expect(exceptions.data == [0x2F, 0, 0, 8, 0, 0, 3, 4, 0, 0, 0, 0])
        let cut = initiator.send([0x4D, 0, 0x6F, 0, 0, 0, 0, 0, 2, 0], in: 255)
        #expect(cut.data == [0x2F, 0] && cut.residual == 253)
        let absent = initiator.send([0x4D, 0, 0x4D, 0, 0, 0, 0, 0, 255, 0], in: 255)
        #expect(absent.fixedSense == [5, 0x24, 0])
        #expect(Array(absent.sense[15..<18]) == [0xCD, 0, 2])
        let subpage = initiator.send([0x4D, 0, 0x6F, 1, 0, 0, 0, 0, 255, 0], in: 255)
        #expect(subpage.fixedSense == [5, 0x24, 0])
    }

    @Test("SEND DIAGNOSTIC passes the default self-test, and has no others")
    func selfTest() {
        let initiator = Initiator()
        #expect(initiator.send([0x1D, 0x04, 0, 0, 0, 0]).status == .good)
        #expect(initiator.send([0x1D, 0x24, 0, 0, 0, 0]).fixedSense == [5, 0x24, 0])
        #expect(initiator.send([0x1D, 0x04, 0, 0, 8, 0]).fixedSense == [5, 0x24, 0])
    }

    @Test("READ DEFECT DATA has empty lists in the format that was asked for", arguments: 0...5)
    func defects(format: UInt8) {
        let initiator = Initiator()
        // PLIST and GLIST.
        let flags = 0x18 | format
        let short = initiator.send([0x37, 0, flags, 0, 0, 0, 0, 0, 8, 0], in: 8)
        #expect(short.status == .good && short.data == [0, flags, 0, 0])
        let long = initiator.send([0xB7, flags, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], in: 8)
        #expect(long.status == .good && long.data == [0, flags, 0, 0, 0, 0, 0, 0])
    }

    @Test("PRE-FETCH succeeds within the medium, with IMMED too, and moves nothing (5/21/00)")
    func preFetch() {
        let initiator = Initiator()
        for cdb: [UInt8] in [
            [0x34, 0, 0, 0, 0, 5, 0, 0, 3, 0], [0x34, 0x02, 0, 0, 7, 0xFF, 0x1F, 0, 1, 0],
            [0x34, 0, 0, 0, 8, 0, 0, 0, 0, 0],
            [0x90, 0x02, 0, 0, 0, 0, 0, 0, 7, 0xFF, 0, 0, 0, 1, 0, 0],
            [0x90, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0],
        ] {
            let answer = initiator.send(cdb)
            #expect(answer.status == .good && !answer.isOverrun, "\(cdb)")
        }
        for cdb: [UInt8] in [
            [0x34, 0, 0, 0, 7, 0xFF, 0, 0, 2, 0], [0x34, 0, 0, 0, 8, 1, 0, 0, 0, 0],
            [0x90, 0] + [UInt8](repeating: 0xFF, count: 8) + [0, 0, 0, 1, 0, 0],
        ] { #expect(initiator.send(cdb).fixedSense == [5, 0x21, 0], "\(cdb)") }
        #expect(initiator.store.log.isEmpty)
    }
}
