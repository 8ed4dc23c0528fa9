// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

@Suite("Handing buffers back")
struct HandBackTests {
    @Test(
        "makes them come again, in the same order, whatever was fetched with them",
        arguments: SmallRing.all)
    func rewind(small: SmallRing) throws {
        for start in small.starts {
            for count in 1...small.size {
                let options = RingOptions(size: small.size, start: start)
                let ring = try RingContext(small.format, options, in: TestMemory(byteCount: 65536))
                for byte in 0..<UInt8(small.size) { ring.offer(byte) }
                let base = ring.queue.base
                let first = try ring.takeAll()
                #expect(first.count == small.size)
                ring.handBack(count)
                #expect(ring.queue.outstandingCount == small.size - count)
                #expect(try ring.takeAll().map(\.id) == first.suffix(count).map(\.id))
                ring.handBack(small.size)
                #expect(ring.queue.base & 0xFFFF == base & 0xFFFF)
                let again = try ring.takeAll()
                #expect(again.map(\.id) == first.map(\.id))
                #expect(
                    again.map { ring.readableBytes(of: $0)[0] } == Array(0..<UInt8(small.size)))
                ring.finish()
                #expect(try ring.reapedTags() == Array(0..<small.size))
            }
        }
    }

    @Test("rewinds chains of every length", arguments: RingFormat.allCases)
    func chains(format: RingFormat) throws {
        for start: UInt32 in 0..<14 {
            let options = RingOptions(
                size: format == .split ? 8 : 7, start: format == .split ? 65530 + start : start)
            let ring = try RingContext(format, options)
            for (tag, length) in [1, 3, 2].enumerated() {
                ring.driver.offer(
                    readable: (0..<length).map { [UInt8(16 * tag + $0)] },
                    placement: tag == 1 && start % 2 == 0 ? .indirect : .direct, tag: tag)
            }
            let base = ring.queue.base
            try ring.takeAll()
            ring.handBack(1)
            ring.handBack(1)
            let buffers = try ring.takeAll()
            #expect(
                buffers.map { ring.readableBytes(of: $0) } == [[16, 17, 18], [32, 33]])
            ring.handBack(3)
            #expect(ring.queue.base & 0xFFFF == base & 0xFFFF)
            #expect(try ring.takeAll().map { ring.readableBytes(of: $0)[0] } == [0, 16, 32])
            ring.finish()
            #expect(try ring.reapedTags() == [0, 1, 2])
        }
    }

    @Test("leaves earlier buffers, put or not, alone", arguments: RingFormat.allCases)
    func earlier(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        for byte: UInt8 in 1...6 { ring.offer(byte) }
        let buffers = try ring.take(4)
        ring.put(buffers[1])
        ring.handBack(2)
        ring.put(buffers[0])
        ring.queue.flush()
        #expect(try ring.reapedTags() == [2, 1])
        #expect(try ring.takeAll().map { ring.readableBytes(of: $0)[0] } == [3, 4, 5, 6])
        ring.finish()
        #expect(try ring.reapedTags() == [3, 4, 5, 6])
    }

    @Test("keeps what the driver adds afterwards behind them", arguments: RingFormat.allCases)
    func later(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        for byte: UInt8 in 1...3 { ring.offer(byte) }
        try ring.takeAll()
        ring.handBack(3)
        for byte: UInt8 in 4...5 { ring.offer(byte) }
        #expect(try ring.takeAll().map { ring.readableBytes(of: $0)[0] } == [1, 2, 3, 4, 5])
        ring.finish()
        #expect(try ring.reapedTags() == [1, 2, 3, 4, 5])
    }

    @Test("of nothing changes nothing", arguments: RingFormat.allCases)
    func nothing(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 4))
        ring.handBack(0)
        ring.offer(1)
        try ring.take()
        ring.handBack(0)
        #expect(ring.queue.outstandingCount == 1)
        ring.finish()
        #expect(try ring.reapedTags() == [1])
    }

    @Test(
        "across many fetches goes back as far as buffers are out", arguments: RingFormat.allCases)
    func manyBatches(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 256))
        let chain = Chain(readable: [ring.memory.segment([1])])
        for tag in 0..<256 { _ = ring.driver.add(chain, tag: tag) }
        ring.driver.kick()
        let base = ring.queue.base
        let buffers = try ring.takeAll()
        #expect(buffers.count == 256)
        ring.handBack(200)
        #expect(try ring.take(30).map(\.id) == buffers[56..<86].map(\.id))
        ring.handBack(86)
        #expect(ring.queue.base & 0xFFFF == base & 0xFFFF)
        #expect(try ring.takeAll().map(\.id) == buffers.map(\.id))
        ring.finish()
        #expect(try ring.reapedTags() == Array(0..<256))
    }
}
