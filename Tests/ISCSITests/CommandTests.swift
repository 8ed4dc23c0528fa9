// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Targets
import Testing

@testable import ISCSIBackstore

@Suite("A command over iSCSI", .serialized)
struct CommandTests {
    @Test(
        "moves its data between the target and the guest's pieces",
        arguments: [1, 8, 256, 2048], [Int.max, 4096, 513])
    func movesData(blockCount: Int, pieceByteCount: Int) throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        let pattern = TestBuffer.pattern(block: 77, count: blockCount)
        let out = TestBuffer(pattern, pieceByteCount: pieceByteCount)
        let back = TestBuffer(byteCount: pattern.count, pieceByteCount: pieceByteCount)
        let count = UInt32(blockCount)
        #expect(
            try context.run(
                BlockCDB.write(77, count), direction: .write, byteCount: pattern.count,
                pieces: out.pieces) == .answered(status: 0x00, .none))
        #expect(
            try context.run(
                BlockCDB.read(77, count), direction: .read, byteCount: pattern.count,
                pieces: back.pieces) == .answered(status: 0x00, .none))
        #expect(back.bytes == pattern)
    }

    @Test("takes more pieces than one system call does")
    func manyPieces() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        let pattern = TestBuffer.pattern(block: 5, count: 64)
        let out = TestBuffer(pattern, pieceByteCount: 16)
        let back = TestBuffer(byteCount: pattern.count, pieceByteCount: 17)
        #expect(out.pieces.count == 2048)
        _ = try context.run(
            BlockCDB.write(5, 64), direction: .write, byteCount: pattern.count, pieces: out.pieces)
        #expect(
            try context.run(
                BlockCDB.read(5, 64), direction: .read, byteCount: pattern.count,
                pieces: back.pieces) == .answered(status: 0x00, .none))
        #expect(back.bytes == pattern)
    }

    @Test("brings immediate and unsolicited data where that was agreed")
    func unsolicitedData() throws {
        var setUp = TgtTarget.Configuration()
        setUp.parameters = [
            "InitialR2T": "No", "ImmediateData": "Yes", "FirstBurstLength": "65536",
            "MaxRecvDataSegmentLength": "32768",
        ]
        let target = try TgtTarget(setUp)
        let context = try SessionContext(target.url())
        try context.bringUp()
        #expect(context.lines.count(containing: "initial-r2t=false") == 1, "\(context.lines.all)")
        let pattern = TestBuffer.pattern(block: 0, count: 512)
        let out = TestBuffer(pattern, pieceByteCount: 4096)
        let back = TestBuffer(byteCount: pattern.count, pieceByteCount: 4096)
        _ = try context.run(
            BlockCDB.write(0, 512), direction: .write, byteCount: pattern.count,
            pieces: out.pieces)
        _ = try context.run(
            BlockCDB.read(0, 512), direction: .read, byteCount: pattern.count,
            pieces: back.pieces)
        #expect(back.bytes == pattern)
    }

    @Test("tells how much less there was than expected")
    func underflow() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        let buffer = TestBuffer(byteCount: 255)
        // INQUIRY, allocation length 36, into a buffer of 255 bytes.
        let outcome = try context.run(
            (0x1200_0000_2400_0000, 0), direction: .read, byteCount: 255, pieces: buffer.pieces)
        #expect(outcome == .answered(status: 0x00, .underflow(219)))
        #expect(buffer.bytes[36...].allSatisfy { $0 == 0 })
        #expect(buffer.bytes[8..<11] == [0x49, 0x45, 0x54])
    }

    @Test("tells how much more there was than expected")
    func overflow() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        let buffer = TestBuffer(byteCount: 512)
        let outcome = try context.run(
            BlockCDB.read(0, 2), direction: .read, byteCount: 512, pieces: buffer.pieces)
        #expect(outcome == .answered(status: 0x00, .overflow(512)))
    }

    @Test("brings the target's sense data unchanged")
    func sense() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        let buffer = TestBuffer(byteCount: 512)
        // A block far beyond the end: ILLEGAL REQUEST, 21h/00h.
        let token = context.submit(
            BlockCDB.read(1 << 40, 1), direction: .read, byteCount: 512, pieces: buffer.pieces)
        try context.turn { context.outcomes[token] != nil }
        guard case .answered(status: 0x02, _) = context.outcomes[token] else {
            Issue.record("\(String(describing: context.outcomes[token]))")
            return
        }
        let sense = try #require(context.sense[token])
        #expect(sense.count >= 18)
        #expect(sense[0] & 0x7F == 0x70)
        #expect(sense[2] & 0x0F == 0x05)
        #expect(Array(sense[12...13]) == [0x21, 0x00])
    }

    @Test("waits its turn when there are more than the target takes at once")
    func manyInFlight() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        let buffers = (0..<1000).map { _ in TestBuffer(byteCount: 4096) }
        for (index, buffer) in buffers.enumerated() {
            context.submit(
                BlockCDB.read(UInt64(index * 8), 8), direction: .read, byteCount: 4096,
                pieces: buffer.pieces)
        }
        #expect(try context.turn { context.outcomes.count == 1000 })
        #expect(context.outcomes.values.allSatisfy { $0 == .answered(status: 0x00, .none) })
    }
}
