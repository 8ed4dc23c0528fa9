// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import SCSI
import Stores
import Testing

@Suite("READ and WRITE")
struct TransferTests {
    /// A CDB of each length for 2 blocks at 5.
    static let reads: [[UInt8]] = [
        [0x08, 0, 0, 5, 2, 0],
        [0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0],
        [0xA8, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0],
        [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0],
    ]
    static let writes: [[UInt8]] = [
        [0x0A, 0, 0, 5, 2, 0],
        [0x2A, 0, 0, 0, 0, 5, 0, 0, 2, 0],
        [0xAA, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0],
        [0x8A, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0],
    ]

    @Test("move blocks", arguments: zip(reads, writes))
    func move(read: [UInt8], write: [UInt8]) {
        let initiator = Initiator()
        let data = (0..<1024).map { UInt8(truncatingIfNeeded: $0 / 7) }
        let written = initiator.send(write, out: data)
        #expect(written.status == .good && written.residual == 0 && !written.isOverrun)
        #expect(initiator.store[5] == Array(data[..<512]))
        #expect(initiator.store[6] == Array(data[512...]))
        let answer = initiator.send(read, in: 1024)
        #expect(answer.status == .good && answer.residual == 0)
        #expect(answer.data == data)
    }

    @Test("leave the rest of a longer buffer alone", arguments: zip(reads, writes))
    func longerBuffer(read: [UInt8], write: [UInt8]) {
        let initiator = Initiator()
        let written = initiator.send(write, out: [UInt8](repeating: 0x55, count: 1500))
        #expect(written.status == .good && written.residual == 476 && !written.isOverrun)
        #expect(initiator.store[7] == [UInt8](repeating: 0, count: 512))
        let answer = initiator.send(read, in: 1500)
        #expect(answer.status == .good && answer.residual == 476)
        #expect(answer.data == [UInt8](repeating: 0x55, count: 1024))
    }

    @Test("into a shorter buffer overrun", arguments: 0...3, [0, 100, 512, 1023])
    func shorterBuffer(length: Int, room: Int) {
        let initiator = Initiator()
        let written = initiator.send(
            Self.writes[length], out: [UInt8](repeating: 0x55, count: room))
        #expect(written.isOverrun && written.residual == 1024 - room)
        #expect(initiator.store.allocatedBlockCount == 0, "nothing is written")
        initiator.store[5] = [UInt8](repeating: 0x77, count: 512)
        initiator.store[6] = [UInt8](repeating: 0x77, count: 512)
        let answer = initiator.send(Self.reads[length], in: room)
        #expect(answer.isOverrun && answer.residual == 1024 - room)
        #expect(answer.data == [UInt8](repeating: 0x77, count: room))
    }

    @Test("with the buffer on the wrong side overrun")
    func wrongSide() {
        let initiator = Initiator()
        let answer = initiator.send(Self.reads[1], out: [UInt8](repeating: 1, count: 1024))
        #expect(answer.isOverrun && answer.residual == 1024)
    }

    @Test("beyond the end are refused (5/21/00)")
    func beyondTheEnd() {
        let initiator = Initiator(blockCount: 10)
        for first: UInt8 in [9, 10, 11] {
            let cdb: [UInt8] = [0x28, 0, 0, 0, 0, first, 0, 0, 2, 0]
            #expect(initiator.send(cdb, in: 1024).fixedSense == [5, 0x21, 0])
        }
        let top: [UInt8] = [0x88, 0] + [UInt8](repeating: 0xFF, count: 8) + [0, 0, 0, 1, 0, 0]
        #expect(initiator.send(top, in: 512).fixedSense == [5, 0x21, 0])
    }

    @Test("of no blocks succeed up to the end and move nothing")
    func noBlocks() {
        let initiator = Initiator(blockCount: 10)
        let atEnd: [UInt8] = [0x28, 0, 0, 0, 0, 10, 0, 0, 0, 0]
        #expect(initiator.send(atEnd).status == .good)
        let behind: [UInt8] = [0x28, 0, 0, 0, 0, 11, 0, 0, 0, 0]
        #expect(initiator.send(behind).fixedSense == [5, 0x21, 0])
        #expect(initiator.store.log.isEmpty)
    }

    @Test("with protection information are refused (5/24/00)", arguments: 1...7)
    func protection(field: Int) {
        let initiator = Initiator()
        for cdb in Self.reads.dropFirst() {
            var cdb = cdb
            cdb[1] = UInt8(field << 5)
            #expect(initiator.send(cdb, in: 1024).fixedSense == [5, 0x24, 0])
        }
    }

    @Test("of 6 bytes mean 256 blocks by none, and have 21 bits of address")
    func sixBytes() {
        let initiator = Initiator(blockCount: 1 << 21)
        let data = (0..<256 * 512).map { UInt8(truncatingIfNeeded: $0 / 513) }
        #expect(initiator.send([0x0A, 0, 0, 5, 0, 0], out: data).status == .good)
        #expect(initiator.store.log.map(\.byteCount) == [256 * 512])
        #expect(initiator.store[260] == Array(data[(255 * 512)...]))
        let answer = initiator.send([0x08, 0, 0, 5, 0, 0], in: 256 * 512)
        #expect(answer.status == .good && answer.data == data)
        let last = [UInt8](repeating: 0x21, count: 512)
        #expect(initiator.send([0x0A, 0x1F, 0xFF, 0xFF, 1, 0], out: last).status == .good)
        #expect(initiator.store[0x1F_FFFF] == last)
        #expect(initiator.send([0x08, 0x20, 0, 5, 1, 0], in: 512).fixedSense == [5, 0x24, 0])
    }

    @Test("take DPO, which changes nothing", arguments: 1...3)
    func disablePageOut(length: Int) {
        let initiator = Initiator()
        let data = (0..<1024).map { UInt8(truncatingIfNeeded: $0 / 3) }
        var (read, write) = (Self.reads[length], Self.writes[length])
        read[1] = 0x10
        write[1] = 0x10
        #expect(initiator.send(write, out: data).status == .good)
        #expect(initiator.send(read, in: 1024).data == data)
        #expect(initiator.store.log.map(\.operation) == [.write(isDurable: false), .read])
    }

    @Test("of more than MAXIMUM TRANSFER LENGTH are refused (5/24/00)")
    func longest() {
        let initiator = Initiator(blockCount: 1 << 20)
        for code: UInt8 in [0xA8, 0xAA] {
            // 65528 blocks, as the Block Limits page says, and one more.
            let most = initiator.send([code, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xF8, 0, 0])
            #expect(most.isOverrun)
            let more = initiator.send([code, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xF9, 0, 0])
            #expect(more.fixedSense == [5, 0x24, 0])
            #expect(Array(more.sense[15..<18]) == [0xC0, 0, 6])
        }
    }

    @Test("with FUA, or without a write cache, are durable")
    func forceUnitAccess() {
        let initiator = Initiator()
        let data = [UInt8](repeating: 1, count: 1024)
        var cdb = Self.writes[1]
        initiator.send(cdb, out: data)
        cdb[1] = 0x08
        initiator.send(cdb, out: data)
        let operations = initiator.store.log.map(\.operation)
        #expect(operations == [.write(isDurable: false), .write(isDurable: true)])
    }

    @Test("report a bad block with its address (3/11/00, 3/0C/00)")
    func mediumError() {
        let initiator = Initiator()
        initiator.store.failure = { _ in .mediumError(goodByteCount: 512) }
        let read = initiator.send(Self.reads[1], in: 1024)
        #expect(read.fixedSense == [3, 0x11, 0])
        #expect(Array(read.sense[0..<7]) == [0xF0, 0, 3, 0, 0, 0, 6])
        #expect(read.residual == 512)
        let write = initiator.send(Self.writes[1], out: [UInt8](repeating: 0, count: 1024))
        #expect(write.fixedSense == [3, 0x0C, 0])
    }

    @Test(
        "report what else the medium says",
        arguments: [
            (BlockOutcome.noSpace, [7, 0x27, 7]), (.outOfRange, [5, 0x21, 0]),
            (.gone, [2, 0x3A, 0]), (.unsupported, [4, 0x44, 0]),
        ] as [(BlockOutcome, [UInt8])])
    func otherFailures(outcome: BlockOutcome, sense: [UInt8]) {
        let initiator = Initiator()
        initiator.store.failure = { _ in outcome }
        let write = initiator.send(Self.writes[3], out: [UInt8](repeating: 0, count: 1024))
        #expect(write.fixedSense == sense)
    }

    @Test("that cannot be done now end BUSY")
    func busy() {
        let initiator = Initiator()
        initiator.store.failure = { _ in .busy }
        #expect(initiator.send(Self.reads[1], in: 1024).status == .busy)
    }

    @Test("to a read-only disk are refused (7/27/00)")
    func readOnly() {
        let initiator = Initiator(isReadOnly: true)
        for cdb in Self.writes {
            let answer = initiator.send(cdb, out: [UInt8](repeating: 0, count: 1024))
            #expect(answer.fixedSense == [7, 0x27, 0])
        }
        #expect(initiator.send(Self.reads[1], in: 1024).status == .good)
    }

    @Test("reach beyond 2 TiB")
    func beyondTwoTebibytes() {
        let initiator = Initiator(blockCount: 1 << 33)
        let data = [UInt8](repeating: 0x42, count: 512)
        let write: [UInt8] = [0x8A, 0, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0]
        #expect(initiator.send(write, out: data).status == .good)
        #expect(initiator.store[0x1_0000_0009] == data)
        let capacity10 = initiator.send([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], in: 8)
        #expect(capacity10.data == [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 2, 0])
    }
}
