// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import SCSI
import Stores
import Testing

@Suite("VERIFY, WRITE AND VERIFY, COMPARE AND WRITE, ORWRITE")
struct VerifyTests {
    /// The CDB of 3 blocks at 5 by operation code, byte 1 as given.
    static func cdb(_ code: UInt8, _ flags: UInt8 = 0, count: UInt8 = 3) -> [UInt8] {
        switch code >> 5 {
        case 1, 2: [code, flags, 0, 0, 0, 5, 0, 0, count, 0]
        case 5: [code, flags, 0, 0, 0, 5, 0, 0, 0, count, 0, 0]
        default: [code, flags, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, count, 0, 0]
        }
    }

    static func filled() -> (Initiator, [UInt8]) {
        let initiator = Initiator()
        let data = (0..<1536).map { UInt8(truncatingIfNeeded: $0 / 11) }
        for block in 0..<3 {
            initiator.store[5 + UInt64(block)] = Array(data[block * 512..<block * 512 + 512])
        }
        return (initiator, data)
    }

    @Test(
        "VERIFY compares with BYTCHK 01b and reports the first difference",
        arguments: [0x2F, 0xAF, 0x8F] as [UInt8])
    func verify(code: UInt8) {
        var (initiator, data) = Self.filled()
        #expect(initiator.send(Self.cdb(code)).status == .good)
        let equal = initiator.send(Self.cdb(code, 0x02), out: data)
        #expect(equal.status == .good && equal.residual == 0)
        data[1000] ^= 1
        let different = initiator.send(Self.cdb(code, 0x02), out: data)
        #expect(different.fixedSense == [0x0E, 0x1D, 0])
        #expect(Array(different.sense[3..<7]) == [0, 0, 3, 0xE8])
        let short = initiator.send(Self.cdb(code, 0x02), out: Array(data[..<1000]))
        #expect(short.isOverrun && short.residual == 536)
    }

    @Test("VERIFY compares each block with one by BYTCHK 11b, and refuses 10b")
    func verifyOneBlock() {
        let initiator = Initiator()
        let block = (0..<512).map { UInt8(truncatingIfNeeded: $0) }
        for number: UInt64 in 5..<8 { initiator.store[number] = block }
        let cdb = Self.cdb(0x2F, 0x06)
        #expect(initiator.send(cdb, out: block).status == .good)
        initiator.store[7] = [UInt8](repeating: 0, count: 512)
        #expect(initiator.send(cdb, out: block).fixedSense == [0x0E, 0x1D, 0])
        #expect(initiator.send(Self.cdb(0x2F, 0x04)).fixedSense == [5, 0x24, 0])
    }

    @Test("VERIFY without data reads the medium (3/11/00)")
    func verifyMedium() {
        let initiator = Initiator()
        initiator.store.failure = { _ in .mediumError(goodByteCount: 512) }
        let answer = initiator.send(Self.cdb(0x2F))
        #expect(answer.fixedSense == [3, 0x11, 0])
        #expect(Array(answer.sense[3..<7]) == [0, 0, 0, 6])
    }

    @Test(
        "WRITE AND VERIFY writes durably and reads back", arguments: [0x2E, 0xAE, 0x8E] as [UInt8])
    func writeAndVerify(code: UInt8) {
        let initiator = Initiator()
        let data = (0..<1536).map { UInt8(truncatingIfNeeded: $0 / 3) }
        for flags: UInt8 in [0, 0x02] {
            let answer = initiator.send(Self.cdb(code, flags), out: data)
            #expect(answer.status == .good && answer.residual == 0)
        }
        #expect(initiator.store[7] == Array(data[1024...]))
        #expect(
            initiator.store.log.map(\.operation) == [
                .write(isDurable: true), .read, .write(isDurable: true), .read,
            ])
    }

    @Test("COMPARE AND WRITE writes when the compare part is there, else nothing")
    func compareAndWrite() {
        let (initiator, data) = Self.filled()
        let cdb: [UInt8] = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0]
        let new = [UInt8](repeating: 0x99, count: 1536)
        var wrong = data
        wrong[700] ^= 0xFF
        let refused = initiator.send(cdb, out: wrong + new)
        #expect(refused.fixedSense == [0x0E, 0x1D, 0])
        #expect(Array(refused.sense[0..<7]) == [0xF0, 0, 0x0E, 0, 0, 2, 0xBC])
        #expect(initiator.store[6] == Array(data[512..<1024]))
        #expect(initiator.send(cdb, out: data + new).status == .good)
        #expect(initiator.store[7] == Array(new[..<512]))
        let short = initiator.send(cdb, out: data)
        #expect(short.isOverrun && short.residual == 1536)
    }

    @Test("COMPARE AND WRITE excludes what touches its blocks, and nothing else")
    func exclusion() {
        let (initiator, data) = Self.filled()
        let cdb: [UInt8] = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0]
        initiator.start(cdb, out: data + [UInt8](repeating: 1, count: 1536))
        let second = initiator.start(cdb, out: data + [UInt8](repeating: 2, count: 1536))
        let inside = initiator.start([0x28, 0, 0, 0, 0, 7, 0, 0, 1, 0], in: 512)
        initiator.start([0x28, 0, 0, 0, 0, 8, 0, 0, 1, 0], in: 512)
        #expect(initiator.store.pendingCount == 2, "the first one, and the read beside it")
        initiator.store.endAll()
        initiator.collect()
        #expect(initiator.answers[second]?.fixedSense == [0x0E, 0x1D, 0])
        #expect(initiator.answers[inside]?.data == [UInt8](repeating: 1, count: 512))
    }

    @Test("COMPARE AND WRITE waits for older commands on its blocks")
    func waiting() {
        let (initiator, data) = Self.filled()
        initiator.start([0x2A, 0, 0, 0, 0, 5, 0, 0, 1, 0], out: [UInt8](repeating: 3, count: 512))
        let cdb: [UInt8] = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0]
        let compare = initiator.start(cdb, out: data + data)
        #expect(initiator.store.pendingCount == 1)
        initiator.store.endAll()
        initiator.collect()
        #expect(initiator.answers[compare]?.fixedSense == [0x0E, 0x1D, 0])
    }

    @Test("COMPARE AND WRITE of no blocks succeeds, but not with data for some (5/24/00)")
    func compareNothing() {
        let initiator = Initiator()
        let cdb: [UInt8] = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0]
        #expect(initiator.send(cdb).status == .good)
        let refused = initiator.send(cdb, out: [UInt8](repeating: 0, count: 1024))
        #expect(refused.fixedSense == [5, 0x24, 0])
        #expect(Array(refused.sense[15..<18]) == [0xC0, 0, 13])
        let beyond: [UInt8] = [0x89, 0, 0, 0, 0, 0, 0, 0, 7, 0xFF, 0, 0, 0, 2, 0, 0]
        let data = [UInt8](repeating: 0, count: 2048)
        #expect(initiator.send(beyond, out: data).fixedSense == [5, 0x21, 0])
        #expect(initiator.store.log.isEmpty)
    }

    @Test("write durably with FUA, and without a write cache", arguments: [0x89, 0x8B] as [UInt8])
    func durability(code: UInt8) {
        let initiator = Initiator()
        let data = [UInt8](repeating: 0, count: code == 0x89 ? 1024 : 512)
        initiator.send(Self.cdb(code, count: 1), out: data)
        initiator.send(Self.cdb(code, 0x08, count: 1), out: data)
        // MODE SELECT (6), the caching page with WCE 0: flushes what the cache holds.
        let list: [UInt8] = [0, 0, 0, 0, 0x08, 0x12] + [UInt8](repeating: 0, count: 18)
        initiator.send([0x15, 0x10, 0, 0, 24, 0], out: list)
        initiator.send(Self.cdb(code, count: 1), out: data)
        #expect(
            initiator.store.log.map(\.operation) == [
                .read, .write(isDurable: false), .read, .write(isDurable: true), .flush, .read,
                .write(isDurable: true),
            ])
    }

    @Test(
        "and every other command with protection information are refused (5/24/00)",
        arguments: [
            0x2A, 0xAA, 0x8A, 0x2E, 0xAE, 0x8E, 0x2F, 0xAF, 0x8F, 0x8B, 0x89, 0x41, 0x93,
        ] as [UInt8])
    func protection(code: UInt8) {
        let initiator = Initiator()
        let data = [UInt8](repeating: 0, count: 3072)
        for field: UInt8 in 1...7 {
            let answer = initiator.send(Self.cdb(code, field << 5), out: data)
            #expect(answer.fixedSense == [5, 0x24, 0])
            #expect(answer.sense[16...17] == [0, 1])
        }
        #expect(initiator.store.log.isEmpty)
    }

    @Test("end TASK SET FULL while 64 others go through memory of ours")
    func full() {
        let initiator = Initiator()
        let data = [UInt8](repeating: 1, count: 512)
        func cdb(_ block: Int) -> [UInt8] {
            [0x8B, 0, 0, 0, 0, 0, 0, 0, 0, UInt8(block), 0, 0, 0, 1, 0, 0]
        }
        let first = (0..<64).map { initiator.start(cdb($0), out: data) }
        let refused = initiator.start(cdb(64), out: data)
        #expect(initiator.answers[refused]?.status == .taskSetFull)
        // What goes straight to the medium is not concerned.
        let read = initiator.start([0x28, 0, 0, 0, 0, 200, 0, 0, 1, 0], in: 512)
        initiator.store.endAll()
        initiator.collect()
        #expect((first + [read]).allSatisfy { initiator.answers[$0]?.status == .good })
        #expect(initiator.store.allocatedBlockCount == 64)
    }

    @Test("ORWRITE sets bits")
    func orWrite() {
        let initiator = Initiator()
        initiator.store[5] = [UInt8](repeating: 0x0F, count: 512)
        let answer = initiator.send(Self.cdb(0x8B), out: [UInt8](repeating: 0x50, count: 1536))
        #expect(answer.status == .good && answer.residual == 0)
        #expect(initiator.store[5] == [UInt8](repeating: 0x5F, count: 512))
        #expect(initiator.store[7] == [UInt8](repeating: 0x50, count: 512))
    }

    @Test("work in chunks of a megabyte")
    func chunks() {
        let initiator = Initiator(blockCount: 16384)
        let count = 4097
        let data = [UInt8](repeating: 0xA5, count: count * 512)
        let length: [UInt8] = [0, 0, UInt8(count >> 8), UInt8(count & 0xFF)]
        let start: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 1]
        #expect(initiator.send([0x8B, 0] + start + length + [0, 0], out: data).status == .good)
        #expect(initiator.store[4097] == [UInt8](repeating: 0xA5, count: 512))
        #expect(initiator.send([0x8F, 2] + start + length + [0, 0], out: data).status == .good)
        initiator.store[4097] = [UInt8](repeating: 0xA4, count: 512)
        let answer = initiator.send([0x8F, 2] + start + length + [0, 0], out: data)
        #expect(answer.fixedSense == [0x0E, 0x1D, 0])
        #expect(Array(answer.sense[3..<7]) == [0, 0x20, 0, 0])
    }
}
