// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

/// Writes down what it is called with, and what the driver could see at that moment.
final class RecordingJournal: InflightJournal {
    enum Entry: Equatable {
        case taken(UInt16, descriptorCount: UInt16)
        case handedBack(UInt16)
        case willPublish([UInt16], lengths: [UInt32], visible: Bool)
        case didPublish([UInt16], usedIndex: UInt32, visible: Bool)
    }

    var entries: [Entry] = []
    private let driver: any RingDriver

    init(_ driver: any RingDriver) { self.driver = driver }

    func bufferTaken(id: UInt16, descriptorCount: UInt16) {
        entries.append(.taken(id, descriptorCount: descriptorCount))
    }

    func bufferHandedBack(id: UInt16) {
        entries.append(.handedBack(id))
    }

    func willPublish(_ used: Span<UsedBuffer>) {
        entries.append(
            .willPublish(
                used.indices.map { used[$0].id },
                lengths: used.indices.map { used[$0].writtenLength },
                visible: driver.hasUsed))
    }

    func didPublish(_ used: Span<UsedBuffer>, usedIndex: UInt32) {
        entries.append(
            .didPublish(
                used.indices.map { used[$0].id }, usedIndex: usedIndex, visible: driver.hasUsed))
    }
}

@Suite("The in-flight journal of a ring")
struct InflightJournalTests {
    @Test("hears of buffers as they are taken", arguments: RingFormat.allCases)
    func taken(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        let journal = RecordingJournal(ring.driver)
        ring.queue.journal = journal
        for count in [1, 3] {
            ring.driver.offer(readable: (0..<count).map { [UInt8($0)] })
        }
        ring.driver.offer(readable: [[1], [2]], placement: .indirect)
        #expect(journal.entries.isEmpty)
        // What is fetched and not taken is none of its business.
        let first = try #require(try ring.take())
        #expect(journal.entries == [.taken(first.id, descriptorCount: 1)])
        let second = try #require(try ring.take())
        let third = try #require(try ring.take())
        #expect(
            journal.entries.dropFirst() == [
                .taken(second.id, descriptorCount: 3), .taken(third.id, descriptorCount: 1),
            ])
    }

    @Test(
        "hears of used buffers just before and just after they are published",
        arguments: RingFormat.allCases)
    func published(format: RingFormat) throws {
        let start: UInt32 = format == .split ? 0xFFFE : 6
        let ring = try RingContext(format, RingOptions(size: 8, start: start))
        let journal = RecordingJournal(ring.driver)
        ring.queue.journal = journal
        for byte: UInt8 in 1...4 { ring.offer(byte) }
        let buffers = try ring.takeAll()
        journal.entries = []
        ring.put(buffers[2], writtenLength: 0)
        ring.put([buffers[0], buffers[1]])
        #expect(journal.entries.isEmpty)
        ring.queue.flush()
        let ids = [2, 0, 1].map { buffers[$0].id }
        // Split: the free running index. Packed: place 1 of the second lap.
        let usedIndex: UInt32 = format == .split ? 1 : 1
        #expect(
            journal.entries == [
                .willPublish(ids, lengths: [0, 0, 0], visible: false),
                .didPublish(ids, usedIndex: usedIndex, visible: true),
            ])
        journal.entries = []
        ring.queue.flush()
        ring.queue.signal()
        #expect(journal.entries.isEmpty)
    }
}

extension InflightJournalTests {
    @Test("hears of buffers that are handed back", arguments: RingFormat.allCases)
    func handedBack(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        let journal = RecordingJournal(ring.driver)
        ring.queue.journal = journal
        for byte: UInt8 in 1...4 { ring.offer(byte) }
        let buffers = try ring.takeAll()
        journal.entries = []
        ring.handBack(2)
        let ids: Set<UInt16> = [buffers[2].id, buffers[3].id]
        #expect(journal.entries.count == 2)
        #expect(ids.allSatisfy { journal.entries.contains(.handedBack($0)) })
    }
}
