// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

@Suite("A ring")
struct RingTests {
    @Test("has nothing to take before the driver offers", arguments: RingFormat.allCases)
    func empty(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 4))
        #expect(try ring.take() == nil)
        #expect(ring.queue.outstandingCount == 0)
        #expect(ring.queue.breakage == nil)
        #expect(ring.queue.size == 4)
        #expect(ring.queue.features.rawValue == ring.driver.features)
    }

    @Test(
        "hands out a chain as it was offered, readable part first",
        arguments: RingFormat.allCases, [Chain.Placement.direct, .indirect])
    func chain(format: RingFormat, placement: Chain.Placement) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        let id = ring.driver.offer(
            readable: [[1, 2, 3], [4], [5, 6]], writable: [7, 2], placement: placement)
        let buffer = try #require(try ring.take())
        #expect(buffer.id == id)
        #expect(buffer.descriptorCount == (placement == .direct ? 5 : 1))
        #expect(buffer.readableLength == 6)
        #expect(buffer.writableLength == 9)
        #expect(buffer.readablePieceCount == 3)
        #expect(buffer.writablePieceCount == 2)
        #expect(ring.readableBytes(of: buffer) == [1, 2, 3, 4, 5, 6])
        #expect(ring.queue.outstandingCount == 1)
        #expect(try ring.take() == nil)
    }

    @Test("says how much it really wrote", arguments: RingFormat.allCases)
    func writtenLength(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 4))
        for length in 0...6 {
            ring.driver.offer(readable: [[9]], writable: [4, 2])
            let buffer = try #require(try ring.take())
            let bytes = (0..<length).map { UInt8(0x41 + $0) }
            ring.write(bytes, to: buffer)
            ring.put(buffer, writtenLength: UInt32(length))
            ring.queue.flush()
            let reaped = try #require(try ring.driver.reap())
            #expect(reaped.writtenLength == UInt32(length))
            #expect(ring.driver.writtenBytes(of: reaped) == bytes)
        }
    }

    @Test(
        "says that it wrote nothing where there is nothing to write",
        arguments: RingFormat.allCases)
    func writtenNothing(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 4))
        ring.offer(1)
        try ring.take()
        ring.finish()
        #expect(try ring.driver.reap()?.writtenLength == 0)
    }

    @Test(
        "shows used buffers to the driver at the flush, not before", arguments: RingFormat.allCases)
    func flush(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        for byte: UInt8 in 1...5 { ring.offer(byte) }
        let buffers = try ring.takeAll()
        #expect(buffers.count == 5)
        ring.put(buffers[0])
        ring.put(Array(buffers[1...2]))
        ring.put(buffers[3])
        #expect(!ring.driver.hasUsed)
        #expect(ring.queue.outstandingCount == 1)
        ring.queue.flush()
        #expect(try ring.reapedTags() == [1, 2, 3, 4])
        ring.queue.flush()
        #expect(!ring.driver.hasUsed)
        ring.put(buffers[4])
        ring.queue.flush()
        #expect(try ring.reapedTags() == [5])
        #expect(ring.queue.outstandingCount == 0)
    }

    @Test("takes buffers back in any order", arguments: RingFormat.allCases)
    func anyOrder(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        for byte: UInt8 in 1...6 {
            ring.offer(byte, placement: byte % 2 == 0 ? .indirect : .direct)
        }
        let buffers = try ring.takeAll()
        for position in [3, 0, 5] { ring.put(buffers[position]) }
        ring.queue.flush()
        #expect(try ring.reapedTags() == [4, 1, 6])
        // The ring goes on with what was given back, past what is still out.
        for byte: UInt8 in 7...9 { #expect(ring.offer(byte) != nil) }
        let more = try ring.takeAll()
        #expect(more.map { ring.readableBytes(of: $0)[0] } == [7, 8, 9])
        ring.put([more[1], buffers[4], buffers[1], more[2], buffers[2], more[0]])
        ring.queue.flush()
        #expect(try ring.reapedTags() == [8, 5, 2, 9, 3, 7])
    }

    @Test(
        "takes chains of different lengths back in any order", arguments: RingFormat.allCases)
    func anyOrderOfLengths(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8, start: 5))
        let lengths = [3, 1, 2, 2]
        for lap in 0..<8 {
            for (tag, length) in lengths.enumerated() {
                let bytes = (0..<length).map { [UInt8(16 * tag + $0)] }
                #expect(ring.driver.offer(readable: bytes, tag: tag) != nil)
            }
            let buffers = try ring.takeAll()
            #expect(buffers.map { Int($0.descriptorCount) } == lengths)
            let order = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]][lap % 4]
            ring.put(order.map { buffers[$0] })
            ring.queue.flush()
            #expect(try ring.reapedTags() == order)
        }
    }

    @Test(
        "appends pieces behind those that the list holds already", arguments: RingFormat.allCases)
    func pieces(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        ring.driver.offer(readable: [[1], [2]], writable: [1])
        ring.driver.offer(readable: [[3]], writable: [1, 1], placement: .indirect)
        let buffers = try ring.takeAll()
        #expect(buffers.map(\.firstPiece) == [0, 3])
        #expect(buffers[1].readablePieces == 3..<4)
        #expect(buffers[1].writablePieces == 4..<6)
        #expect(buffers.map { ring.readableBytes(of: $0) } == [[1, 2], [3]])
    }

    @Test("sees a buffer as soon as it is published", arguments: RingFormat.allCases)
    func publish(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8))
        let chain = Chain(readable: [ring.memory.segment([1])])
        for tag in 0..<3 { _ = ring.driver.add(chain, tag: tag) }
        #expect(try ring.take() == nil)
        _ = ring.driver.publish()
        #expect(try ring.takeAll().count == 3)
    }

    @Test("knows direct descriptors before an indirect one (virtio 1.3 §2.7.5.3.2)")
    func mixed() throws {
        let ring = try RingContext(.split, RingOptions(size: 4))
        ring.driver.offer(
            readable: [[1], [2], [3]], writable: [4, 5], placement: .mixed(direct: 2))
        let buffer = try #require(try ring.take())
        #expect(buffer.descriptorCount == 3)
        #expect(ring.readableBytes(of: buffer) == [1, 2, 3])
        #expect(buffer.writableLength == 9)
    }

    @Test("follows a chain wherever it leads in the descriptor table")
    func scattered() throws {
        var generator = SeededGenerator(seed: 7)
        let memory = try TestMemory()
        let ring = try RingContext(.split, RingOptions(size: 8), in: memory)
        let driver = try #require(ring.driver as? SplitDriver)
        for _ in 0..<200 {
            driver.shuffleFree(using: &generator)
            let bytes = (0..<8).map { _ in UInt8(generator.below(256)) }
            driver.offer(readable: bytes.map { [$0] })
            let buffer = try #require(try ring.take())
            #expect(ring.readableBytes(of: buffer) == bytes)
            ring.finish()
            memory.free(try #require(try driver.reap()).chain)
        }
    }

    @Test("gives an empty chain's place back, too", arguments: RingFormat.allCases)
    func zeroLength(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 4))
        for placement in [Chain.Placement.direct, .indirect] {
            ring.driver.offer(readable: [[]], writable: [0, 3, 0], placement: placement)
            let buffer = try #require(try ring.take())
            #expect(buffer.readableLength == 0)
            #expect(buffer.writableLength == 3)
            ring.write([1, 2, 3], to: buffer)
            ring.finish(writtenLength: 3)
            let reaped = try #require(try ring.driver.reap())
            #expect(ring.driver.writtenBytes(of: reaped) == [1, 2, 3])
        }
    }

    @Test(
        "works, or is refused, wherever in its file a region begins", arguments: RingFormat.allCases
    )
    func oddOffset(format: RingFormat) throws {
        for offset: UInt64 in [1, 2, 3, 4, 7, 8, 12, 15, 4095, 4097] {
            let memory = try TestMemory(byteCount: 65536, fileOffset: offset)
            let ring: RingContext
            do {
                ring = try RingContext(format, RingOptions(size: 4), in: memory)
            } catch {
                #expect(error is VirtqueueError && offset % 16 != 0, "\(error)")
                continue
            }
            for byte: UInt8 in 1...9 {
                ring.driver.offer(readable: [[byte]], writable: [3], placement: .indirect)
                let buffer = try #require(try ring.take())
                ring.write([byte, byte, byte], to: buffer)
                ring.finish(writtenLength: 3)
                let reaped = try #require(try ring.driver.reap())
                #expect(ring.driver.writtenBytes(of: reaped) == [byte, byte, byte])
            }
            #expect(memory.canariesAreIntact)
        }
    }
}
