// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import SCSI
import Stores
import Testing

@Suite("EXTENDED COPY and RECEIVE COPY RESULTS")
struct ExtendedCopyTests {
    /// The disk of these tests: NAA 30 01 … 07.
    static let target: [UInt8] =
        [0xE4, 0, 0, 0, 0x01, 0x03, 0, 8, 0x30, 1, 2, 3, 4, 5, 6, 7]
        + [UInt8](repeating: 0, count: 12) + [0, 0, 2, 0]

    /// A segment, block to block.
    static func segment(
        from source: UInt8, to destination: UInt8, count: UInt8, targets: (UInt8, UInt8) = (0, 0)
    ) -> [UInt8] {
        [0x02, 0, 0, 0x18, 0, targets.0, 0, targets.1, 0, 0, 0, count]
            + [0, 0, 0, 0, 0, 0, 0, source] + [0, 0, 0, 0, 0, 0, 0, destination]
    }

    static func list(
        _ targets: [[UInt8]], _ segments: [[UInt8]], identifier: UInt8 = 7, usage: UInt8 = 0
    ) -> [UInt8] {
        let lengths = [targets, segments].map { $0.joined().count }
        let header: [UInt8] = [
            identifier, usage << 3, UInt8(lengths[0] >> 8), UInt8(lengths[0] & 0xFF), 0, 0, 0, 0,
            0, 0, UInt8(lengths[1] >> 8), UInt8(lengths[1] & 0xFF), 0, 0, 0, 0,
        ]
        return header + targets.joined() + segments.joined()
    }

    static func copy(_ initiator: Initiator, _ list: [UInt8]) -> Initiator.Answer {
        let length = [UInt8(list.count >> 8), UInt8(list.count & 0xFF)]
        return initiator.send(
            [0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] + length + [0, 0], out: list)
    }

    static func receive(_ initiator: Initiator, _ action: UInt8, identifier: UInt8 = 7)
        -> Initiator.Answer
    {
        initiator.send(
            [0x84, action, identifier, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], in: 256)
    }

    static func filled() -> Initiator {
        let initiator = Initiator()
        for block: UInt64 in 0..<8 {
            initiator.store[block] = [UInt8](repeating: UInt8(block + 1), count: 512)
        }
        return initiator
    }

    @Test("copies segment by segment, and tells of it once")
    func copies() {
        let initiator = Self.filled()
        let list = Self.list(
            [Self.target],
            [Self.segment(from: 0, to: 100, count: 8), Self.segment(from: 101, to: 200, count: 2)])
        let answer = Self.copy(initiator, list)
        #expect(answer.status == .good && answer.residual == 0)
        #expect(initiator.store[107] == [UInt8](repeating: 8, count: 512))
        #expect(initiator.store[201] == [UInt8](repeating: 3, count: 512))
        let status = Self.receive(initiator, 0x00)
        // Completed without errors, two segments, 10 blocks in bytes.
        #expect(status.data == [0, 0, 0, 8, 0x01, 0, 2, 0, 0, 0, 0x14, 0])
        #expect(Self.receive(initiator, 0x00).fixedSense == [5, 0x24, 0])
    }

    @Test("keeps no result with LIST ID USAGE 10b, or when the identifier is used again")
    func discards() {
        let initiator = Self.filled()
        let segments = [Self.segment(from: 0, to: 100, count: 1)]
        _ = Self.copy(initiator, Self.list([Self.target], segments, usage: 2))
        #expect(Self.receive(initiator, 0x00).fixedSense == [5, 0x24, 0])
        _ = Self.copy(initiator, Self.list([Self.target], segments))
        let beyond = [Self.segment(from: 0, to: 100, count: 1, targets: (0, 1))]
        _ = Self.copy(initiator, Self.list([Self.target], beyond))
        #expect(Self.receive(initiator, 0x00).fixedSense == [5, 0x24, 0])
    }

    @Test("reports its limits")
    func parameters() {
        let data = Self.receive(Self.filled(), 0x03).data
        #expect(data.count == 46)
        #expect(Array(data[..<4]) == [0, 0, 0, 42])
        #expect(Array(data[8..<16]) == [0, 16, 0, 16, 0, 0, 4, 0])
        #expect(Array(data[43...]) == [2, 0x02, 0xE4])
    }

    @Test(
        "names what is wrong with a list",
        arguments: [
            // Cut off in a target, and in a segment.
            (Array(list([target], [])[..<47]), [5, 0x1A, 0]),
            (list([target], [segment(from: 0, to: 9, count: 1)]).dropLast(), [5, 0x1A, 0]),
            // Too many of either.
            (list([[UInt8]](repeating: target, count: 17), []), [5, 0x26, 0x06]),
            (
                list(
                    [target],
                    [[UInt8]](repeating: segment(from: 0, to: 9, count: 1), count: 17)),
                [5, 0x26, 0x08]
            ),
            // A port's name, and stream to stream.
            (list([[0xE0] + target.dropFirst()], []), [5, 0x26, 0x07]),
            (
                list([target], [[0x03] + segment(from: 0, to: 9, count: 1).dropFirst()]),
                [5, 0x26, 0x09]
            ),
            // No such target, another disk, and behind the end.
            (
                list([target], [segment(from: 0, to: 9, count: 1, targets: (0, 1))]),
                [0x0A, 0x0D, 0x02]
            ),
            (
                list([target.map { $0 == 7 ? 8 : $0 }], [segment(from: 0, to: 9, count: 1)]),
                [0x0A, 0x0D, 0x02]
            ),
        ] as [([UInt8], [UInt8])])
    func mistakes(list: [UInt8], sense: [UInt8]) {
        #expect(Self.copy(Self.filled(), list).fixedSense == sense)
    }

    @Test("of nothing succeeds")
    func nothing() {
        #expect(Self.copy(Self.filled(), []).status == .good)
        #expect(Self.copy(Self.filled(), Self.list([Self.target], [])).status == .good)
    }

    @Test("ends with what the medium says")
    func mediumError() {
        let initiator = Self.filled()
        initiator.store.failure = { $0.operation == .read ? .mediumError(goodByteCount: 0) : nil }
        let list = Self.list([Self.target], [Self.segment(from: 3, to: 100, count: 2)])
        #expect(Self.copy(initiator, list).fixedSense == [3, 0x11, 0])
    }
}
