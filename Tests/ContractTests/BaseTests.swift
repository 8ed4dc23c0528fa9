// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

@Suite("The base of a ring")
struct BaseTests {
    /// The base after `taken` descriptors were taken since `start`; packed, with as many used.
    private func base(_ small: SmallRing, start: UInt32, taken: Int, used: Int) -> UInt32 {
        switch small.format {
        case .split: return (start + UInt32(taken)) & 0xFFFF
        case .packed:
            let halves = [used, taken].map { count in
                let position = Int(start) + count
                return UInt32(position % small.size)
                    | (position / small.size % 2 == 0 ? 0x8000 : 0)
            }
            return halves[0] << 16 | halves[1]
        }
    }

    @Test(
        "is the first buffer that was not taken, whatever was fetched with the others",
        arguments: SmallRing.all)
    func firstUntaken(small: SmallRing) throws {
        for start in small.starts {
            for count in 0...small.size {
                let options = RingOptions(size: small.size, start: start)
                let ring = try RingContext(small.format, options, in: TestMemory(byteCount: 65536))
                #expect(ring.queue.base == base(small, start: start, taken: 0, used: 0))
                for byte in 0..<UInt8(small.size) { ring.offer(byte) }
                try ring.take(count)
                ring.finish()
                #expect(ring.queue.base == base(small, start: start, taken: count, used: count))

                // A successor that starts there takes the rest.
                try ring.restart()
                let rest = try ring.takeAll()
                #expect(
                    rest.map { ring.readableBytes(of: $0)[0] }
                        == (count..<small.size).map { UInt8($0) })
                ring.finish()
                #expect(try ring.reapedTags() == Array(0..<small.size))
            }
        }
    }

    @Test("stands in the middle of a lap after chains of different lengths")
    func chains() throws {
        let small = SmallRing(format: .packed, size: 7)
        for start in small.starts {
            let ring = try RingContext(.packed, RingOptions(size: 7, start: start))
            for length in [2, 3, 1] {
                ring.driver.offer(readable: (0..<length).map { [UInt8($0)] }, tag: length)
            }
            try ring.take(2)
            #expect(
                ring.queue.base & 0xFFFF == base(small, start: start, taken: 5, used: 0) & 0xFFFF)
            ring.finish()
            #expect(ring.queue.base == base(small, start: start, taken: 5, used: 5))
            try ring.restart()
            #expect(try ring.takeAll().count == 1)
            ring.finish()
            #expect(try ring.reapedTags() == [2, 3, 1])
        }
    }

    @Test("lets a device stop and start after every buffer", arguments: SmallRing.all)
    func stopAndGo(small: SmallRing) throws {
        let start = small.format == .split ? 65530 : 1
        let memory = try TestMemory(byteCount: 65536)
        let options = RingOptions(size: small.size, start: UInt32(start))
        let ring = try RingContext(small.format, options, in: memory)
        var tag = 0
        for round in 0..<4 * small.size {
            while ring.offer(UInt8(tag)) != nil { tag += 1 }
            try ring.take()
            ring.finish()
            let reaped = try #require(try ring.driver.reap())
            #expect(reaped.tag == round)
            memory.free(reaped.chain)
            try ring.restart()
        }
    }

    @Test("of a packed ring with 16 bits only goes on at the available index for both halves")
    func sixteenBits() throws {
        for start: UInt32 in 0..<10 {
            let ring = try RingContext(.packed, RingOptions(size: 5, start: start))
            try ring.restart(base: ring.driver.configuration.base & 0xFFFF)
            for byte: UInt8 in 0..<5 { ring.offer(byte) }
            #expect(try ring.takeAll().count == 5)
            ring.finish()
            #expect(try ring.reapedTags() == [0, 1, 2, 3, 4])
        }
    }

    @Test("of a split ring is 16 bits wide, whatever stands above")
    func junkAbove() throws {
        let ring = try RingContext(.split, RingOptions(size: 4, start: 0xFFFE))
        try ring.restart(base: 0xABCD_FFFE)
        ring.offer(1)
        #expect(try ring.takeAll().count == 1)
        #expect(ring.queue.base == 0xFFFF)
    }

    @Test(
        "lies before buffers that were handed back", arguments: RingFormat.allCases)
    func handedBack(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        for byte: UInt8 in 1...8 { ring.offer(byte) }
        try ring.take(5)
        ring.handBack(2)
        ring.finish()
        try ring.restart()
        #expect(try ring.takeAll().map { ring.readableBytes(of: $0)[0] } == [4, 5, 6, 7, 8])
        ring.finish()
        #expect(try ring.reapedTags() == Array(1...8))
    }

    @Test(
        "is still right when the driver resets the ring between fetch and take",
        arguments: RingFormat.allCases)
    func reset(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        for byte: UInt8 in 1...6 { ring.offer(byte) }
        // Fetches more than it takes.
        try ring.take(2)
        // The driver starts anew: the queue of before goes, with all that it had fetched.
        ring.driver.reset(start: 0)
        try ring.restart(base: ring.driver.configuration.base)
        #expect(try ring.take() == nil)
        for byte: UInt8 in 11...13 { ring.offer(byte) }
        #expect(try ring.takeAll().map { ring.readableBytes(of: $0)[0] } == [11, 12, 13])
        ring.finish()
        #expect(try ring.reapedTags() == [11, 12, 13])
    }

    @Test(
        "does not move when a ring goes bad behind it", arguments: RingFormat.allCases)
    func broken(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        ring.offer(1)
        ring.driver.offerRaw([
            RawDescriptor(address: 1 << 40, length: 1, flags: RawDescriptor.indirect)
        ])
        try ring.take()
        let base = ring.queue.base & 0xFFFF
        #expect(throws: VirtqueueError.self) { try ring.take() }
        #expect(ring.queue.base & 0xFFFF == base)
    }

    @Test(
        "is reported when the last buffer has been put and published",
        arguments: RingFormat.allCases)
    func drained(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        let calls = CallCounter()
        ring.queue.whenDrained { calls.count += 1 }
        #expect(calls.count == 1)
        for byte: UInt8 in 1...4 { ring.offer(byte) }
        let buffers = try ring.take(3)
        ring.queue.whenDrained { calls.count += 10 }
        ring.put(buffers[0])
        ring.queue.flush()
        #expect(calls.count == 1)
        ring.put(Array(buffers[1...2]))
        #expect(calls.count == 1)
        ring.queue.flush()
        #expect(calls.count == 11)
        ring.queue.flush()
        #expect(calls.count == 11)
    }
}

/// Counts calls of an escaping closure.
final class CallCounter {
    var count = 0
}
