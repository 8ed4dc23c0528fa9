// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing
import Virtio

@Suite("A large ring")
struct LargeRingTests {
    @Test(
        "carries chains of 1024 data descriptors, a header and a status",
        arguments: RingFormat.allCases,
        [Chain.Placement.direct, .indirect])
    func longChain(format: RingFormat, placement: Chain.Placement) throws {
        for size in placement == .direct ? [2048] : [1, 128, 2048] {
            let start: UInt32 = format == .split ? 65000 : UInt32(size) - 1
            let ring = try RingContext(format, RingOptions(size: size, start: start))
            let data = ring.memory.allocate(byteCount: 4096)
            let header = ring.memory.segment([0xAB])
            for byte in 0..<16 { ring.memory.fill(UInt8(byte), at: data + UInt64(byte), count: 1) }
            for readableCount in [1, 513, 1025] {
                let body = (0..<1025).map { Segment(at: data + UInt64($0 % 16), byteCount: 1) }
                let chain = Chain(
                    readable: [header] + body.prefix(readableCount - 1),
                    writable: Array(body.dropFirst(readableCount - 1)), placement: placement)
                #expect(ring.driver.offer(chain) != nil)
                let buffer = try #require(try ring.take())
                #expect(buffer.readableLength == UInt64(readableCount))
                #expect(buffer.writableLength == UInt64(1026 - readableCount))
                #expect(
                    ring.readableBytes(of: buffer)
                        == [0xAB] + (0..<readableCount - 1).map { UInt8($0 % 16) })
                ring.finish(writtenLength: 1)
                #expect(try ring.driver.reap()?.writtenLength == 1)
            }
        }
    }

    @Test("does not split an indirect table over two batches", arguments: RingFormat.allCases)
    func tableInBatch(format: RingFormat) throws {
        // Tables of 63, 64, 65 and 100 descriptors behind 0...70 direct ones.
        let ring = try RingContext(format, RingOptions(size: 128))
        let byte = ring.memory.segment([1])
        for tableCount in [1, 2, 63, 64, 65, 100] {
            for before in 0...70 {
                for tag in 0..<before { _ = ring.driver.add(Chain(readable: [byte]), tag: tag) }
                let table = (0..<tableCount).map { ring.memory.segment([UInt8($0)]) }
                _ = ring.driver.add(Chain(readable: table, placement: .indirect), tag: before)
                _ = ring.driver.add(Chain(readable: [byte]), tag: before + 1)
                ring.driver.kick()
                let buffers = try ring.takeAll()
                #expect(buffers.count == before + 2)
                #expect(
                    ring.readableBytes(of: buffers[before]) == (0..<tableCount).map { UInt8($0) })
                ring.finish()
                #expect(try ring.reapedTags() == Array(0...before + 1))
                for segment in table { ring.memory.free(segment.address) }
            }
        }
    }

    @Test(
        "hands out a long direct chain whole, wherever a batch ends", arguments: RingFormat.allCases
    )
    func chainInBatch(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 256))
        let byte = ring.memory.segment([1])
        for length in [2, 63, 64, 65, 130] {
            for before in [0, 1, 31, 62, 63, 64, 65] {
                for tag in 0..<before { _ = ring.driver.add(Chain(readable: [byte]), tag: tag) }
                let bytes = (0..<length).map { UInt8($0) }
                let chain = Chain(readable: bytes.map { ring.memory.segment([$0]) })
                _ = ring.driver.add(chain, tag: before)
                ring.driver.kick()
                let buffers = try ring.takeAll()
                #expect(buffers.count == before + 1)
                #expect(ring.readableBytes(of: try #require(buffers.last)) == bytes)
                #expect(buffers.last?.descriptorCount == UInt16(length))
                // Back and forth, so that the chain is fetched a second time.
                ring.handBack(1)
                ring.handBack(before)
                #expect(try ring.takeAll().count == before + 1)
                ring.finish()
                #expect(try ring.reapedTags() == Array(0...before))
                ring.memory.free(chain)
            }
        }
    }

    @Test("of 32768 entries is used whole, over the wrap", arguments: RingFormat.allCases)
    func largest(format: RingFormat) throws {
        let start: UInt32 = format == .split ? 40000 : 32767
        let ring = try RingContext(format, RingOptions(size: 32768, start: start))
        let chain = Chain(readable: [ring.memory.segment([1])])
        var used: [UsedBuffer] = []
        for _ in 0..<3 {
            for tag in 0..<32768 { _ = ring.driver.add(chain, tag: tag) }
            #expect(ring.driver.freeDescriptorCount == 0)
            ring.driver.kick()
            used.removeAll()
            var pieces = IOVectorArray(capacity: 1)
            while let buffer = try ring.queue.take(&pieces) {
                used.append(UsedBuffer(id: buffer.id, writtenLength: 0))
                pieces.removeAll()
            }
            #expect(used.count == 32768)
            #expect(ring.queue.outstandingCount == 32768)
            ring.queue.put(used.span)
            ring.queue.flush()
            ring.queue.signal()
            #expect(try ring.driver.reapAll().map(\.tag) == Array(0..<32768))
        }
        #expect(ring.queue.base == ring.driver.configuration.base)
    }

    @Test("of 32767 entries, which only a packed ring may have, is used whole")
    func odd() throws {
        let ring = try RingContext(.packed, RingOptions(size: 32767, start: 32766))
        let chain = Chain(readable: [Segment(at: ring.memory.allocate(byteCount: 1), byteCount: 1)])
        for _ in 0..<3 {
            for tag in 0..<32767 { _ = ring.driver.add(chain, tag: tag) }
            ring.driver.kick()
            let device = TestDevice()
            #expect(device.run(ring.queue) == 32767)
            #expect(try ring.driver.reapAll().count == 32767)
        }
        #expect(ring.queue.base == ring.driver.configuration.base)
    }

    @Test(
        "carries buffers of up to 2^32 bytes, at odd addresses", arguments: RingFormat.allCases)
    func hugeSegments(format: RingFormat) throws {
        // Nothing of it is touched, so nothing of it takes room.
        let memory = try TestMemory([
            .init(at: 0, byteCount: 1 << 20), .init(at: 1 << 32, byteCount: 6 << 30),
        ])
        let ring = try RingContext(format, RingOptions(size: 8), in: memory)
        let most = Segment(at: 1 << 32 + 3, byteCount: 0xFFFF_FFFF)
        ring.driver.offer(Chain(writable: [most]))
        ring.driver.offer(
            Chain(
                readable: [Segment(at: 1 << 32 + 5, byteCount: 0x8000_0000)],
                writable: [Segment(at: 1 << 32 + 1, byteCount: 0x7FFF_FFFF)]))
        let buffers = try ring.takeAll()
        #expect(buffers.map(\.writableLength) == [0xFFFF_FFFF, 0x7FFF_FFFF])
        #expect(buffers.map(\.readableLength) == [0, 0x8000_0000])
        ring.put(buffers[0], writtenLength: 0xFFFF_FFFF)
        ring.queue.flush()
        #expect(try ring.driver.reap()?.writtenLength == 0xFFFF_FFFF)
    }
}
