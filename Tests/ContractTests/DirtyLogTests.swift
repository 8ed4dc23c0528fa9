// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

/// Records pages, and whether the driver could see used buffers by then.
final class RecordingDirtyLog: DirtyLog {
    var pages: Set<UInt64> = []
    var marksTooLate = 0
    var isTooLate: () -> Bool = { false }

    func markDirty(_ address: GuestAddress, byteCount: UInt64) {
        if isTooLate() { marksTooLate += 1 }
        guard byteCount > 0 else { return }
        pages.formUnion(address.rawValue / 4096...(address.rawValue + byteCount - 1) / 4096)
    }
}

@Suite("The dirty log of a ring")
struct DirtyLogTests {
    private func ring(
        _ format: RingFormat, logsRing: Bool, eventIndex: Bool = true
    ) throws -> (RingContext, RecordingDirtyLog) {
        let memory = try TestMemory([
            .init(at: 0x10_0000, byteCount: 1 << 20), .init(at: 0x40_0000, byteCount: 1 << 20),
            .init(at: 0x50_0000, byteCount: 1 << 20),
        ])
        let options = RingOptions(size: 256, start: 250, eventIndex: eventIndex)
        let ring = try RingContext(format, options, in: memory, logsRing: logsRing)
        let log = RecordingDirtyLog()
        ring.deviceMemory.dirtyLog = log
        return (ring, log)
    }

    @Test(
        "holds exactly the pages of the buffers that were written, marked before they are used",
        arguments: RingFormat.allCases)
    func data(format: RingFormat) throws {
        let (ring, log) = try ring(format, logsRing: false)
        log.isTooLate = { ring.driver.hasUsed }
        // Segments that begin and end at, before and behind a page's border, and cross regions; some
        // are empty (CVE-2019-14835).
        let writable = [
            Segment(at: 0x40_0FFF, byteCount: 2), Segment(at: 0x40_2000, byteCount: 0),
            Segment(at: 0x40_3000, byteCount: 4096), Segment(at: 0x7FFF_0000, byteCount: 0),
            Segment(at: 0x40_5FFF, byteCount: 1), Segment(at: 0x40_8001, byteCount: 8190),
            Segment(at: 0x4F_FFFF, byteCount: 2),
        ]
        let ends = [0, 1, 2, 3, 4097, 4098, 4099, 4100, 8193, 8194, 12288, 12289, 12290, 12291]
        for length in ends {
            for placement in [Chain.Placement.direct, .indirect] {
                for region in 1...2 {
                    let area = ring.memory.area(ofRegion: region)
                    area.fill(0, at: 0, count: area.byteCount)
                }
                log.pages = []
                ring.driver.offer(
                    Chain(
                        readable: [Segment(at: 0x48_0000, byteCount: 4096)], writable: writable,
                        placement: placement))
                let buffer = try #require(try ring.take())
                let before = ring.memory.snapshot()
                ring.write([UInt8](repeating: 1, count: length), to: buffer)
                let changed = ring.memory.pagesChanged(since: before)
                ring.finish(writtenLength: UInt32(length))
                #expect(log.pages == changed, "after \(length) bytes")
                #expect(log.marksTooLate == 0)
                _ = try ring.driver.reapAll()
            }
        }
    }

    @Test("holds nothing of a buffer that was handed back", arguments: RingFormat.allCases)
    func handedBack(format: RingFormat) throws {
        let (ring, log) = try ring(format, logsRing: false)
        ring.driver.offer(Chain(writable: [Segment(at: 0x40_0000, byteCount: 4096)]))
        try ring.take()
        ring.handBack(1)
        #expect(log.pages.isEmpty)
        try ring.take()
        ring.finish(writtenLength: 1)
        #expect(log.pages == [0x400])
    }

    @Test(
        "holds the pages of the ring that the device wrote, if it is asked to",
        arguments: RingFormat.allCases, [true, false])
    func ringPages(format: RingFormat, eventIndex: Bool) throws {
        let (ring, log) = try ring(format, logsRing: true, eventIndex: eventIndex)
        let chain = Chain(readable: [ring.memory.segment([1])])
        for count in [1, 5, 8, 200, 60, 256] {
            for tag in 0..<count { _ = ring.driver.add(chain, tag: tag) }
            ring.driver.kick()
            log.pages = []
            let before = ring.memory.snapshot()
            ring.queue.suppressNotifications()
            try ring.takeAll()
            ring.finish()
            _ = ring.queue.requestNotifications()
            let changed = ring.memory.pagesChanged(since: before)
            #expect(log.pages.isSuperset(of: changed))
            let areas = ring.areas.flatMap { $0.lowerBound / 4096...($0.upperBound - 1) / 4096 }
            #expect(log.pages.isSubset(of: areas))
            _ = try ring.driver.reapAll()
        }
    }

    @Test("holds nothing of the ring otherwise", arguments: RingFormat.allCases)
    func noRingPages(format: RingFormat) throws {
        let (ring, log) = try ring(format, logsRing: false)
        ring.offer(1)
        try ring.takeAll()
        ring.finish()
        _ = ring.queue.requestNotifications()
        #expect(log.pages.isEmpty)
    }

    @Test("may begin and end while buffers are on their way", arguments: RingFormat.allCases)
    func switched(format: RingFormat) throws {
        let (ring, log) = try ring(format, logsRing: false)
        for page in 0..<UInt64(4) {
            ring.driver.offer(
                Chain(writable: [Segment(at: 0x40_0000 + 4096 * page, byteCount: 4096)]))
        }
        ring.deviceMemory.dirtyLog = nil
        let first = try #require(try ring.take())
        ring.put(first, writtenLength: 1)
        ring.queue.flush()
        ring.deviceMemory.dirtyLog = log
        let second = try #require(try ring.take())
        ring.put(second, writtenLength: 1)
        ring.queue.flush()
        #expect(log.pages == [0x401])
        ring.deviceMemory.dirtyLog = nil
        let third = try #require(try ring.take())
        ring.put(third, writtenLength: 1)
        ring.queue.flush()
        #expect(log.pages == [0x401])
    }
}
