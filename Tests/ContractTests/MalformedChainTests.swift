// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

/// What a driver may do wrong in either format.
///
/// Each case follows two good buffers and is followed by a good one; the queue breaks at the bad
/// one, loses none before it and does not go on.
@Suite("A broken chain")
struct MalformedChainTests {
    /// Guest memory with a hole; the second region ends where the third begins.
    static func memory() throws -> TestMemory {
        try TestMemory([
            .init(at: 0x10_0000, byteCount: 1 << 20),
            .init(at: 0x40_0000, byteCount: 0x1_0000),
            .init(at: 0x41_0000, byteCount: 0x1_0000),
            .init(at: 0xFFFF_FFFF_FFFF_0000, byteCount: 0x1_0000 - 1),
        ])
    }

    /// Stretches that do not lie in memory.
    static let outside: [Segment] = [
        Segment(at: 0, byteCount: 1),
        Segment(at: 0x0F_FFFF, byteCount: 1),
        Segment(at: 0x0F_FFFF, byteCount: 2),
        Segment(at: 0x1F_FFFF, byteCount: 2),
        Segment(at: 0x1F_F000, byteCount: 0x1001),
        Segment(at: 0x20_0000, byteCount: 1),
        Segment(at: 0x1F_FFF0, byteCount: 0xFFFF_FF00),
        Segment(at: 0x1F_0000, byteCount: 0x22_0000),
        Segment(at: 0x41_FFFF, byteCount: 2),
        Segment(at: 0x40_FFFF, byteCount: 0x1_0002),
        Segment(at: 0xFFFF_FFFF_FFFF_FFFE, byteCount: 2),
        Segment(at: 0xFFFF_FFFF_FFFF_FFFF, byteCount: 1),
        Segment(at: 0xFFFF_FFFF_FFFF_0000, byteCount: 0x1_0000),
        Segment(at: 0xFFFF_FFFF_FFFF_0000, byteCount: 0x1_0001),
        Segment(at: 0xFFFF_FFFF_FFFF_FFFF, byteCount: 0xFFFF_FF00),
        Segment(at: 0x8000_0000_0000_0000, byteCount: 0x10),
    ]

    /// Two good buffers, the bad one, another good one; then what the device must do with them.
    static func expectBreak(
        _ format: RingFormat, indirect: Bool = true, _ expected: VirtqueueError? = nil,
        sourceLocation: SourceLocation = #_sourceLocation,
        _ offerBad: (RingContext) -> Void
    ) throws {
        let options = RingOptions(size: 8, indirect: indirect)
        let ring = try RingContext(format, options, in: try memory())
        ring.offer(1)
        ring.offer(2)
        offerBad(ring)
        ring.offer(3)
        let first = try #require(try ring.take(), sourceLocation: sourceLocation)
        let second = try #require(try ring.take(), sourceLocation: sourceLocation)
        #expect(
            [first, second].map { ring.readableBytes(of: $0)[0] } == [1, 2],
            sourceLocation: sourceLocation)
        let error = try #require(
            throws: VirtqueueError.self, sourceLocation: sourceLocation
        ) { try ring.take() }
        if let expected { #expect(error == expected, sourceLocation: sourceLocation) }
        #expect(ring.queue.breakage == error, sourceLocation: sourceLocation)
        // It stays broken, says so each time, and asks nobody to look again.
        #expect(throws: error, sourceLocation: sourceLocation) { try ring.take() }
        #expect(!ring.queue.requestNotifications(), sourceLocation: sourceLocation)
        #expect(ring.queue.outstandingCount == 2, sourceLocation: sourceLocation)
        // What was taken before is given back as ever.
        ring.finish()
        #expect(try ring.reapedTags() == [1, 2], sourceLocation: sourceLocation)
        #expect(ring.queue.outstandingCount == 0, sourceLocation: sourceLocation)
    }

    @Test(
        "is none with a descriptor outside memory, but it is cut there",
        arguments: RingFormat.allCases, outside)
    func outsideMemory(format: RingFormat, segment: Segment) throws {
        let ring = try RingContext(format, RingOptions(size: 32), in: try Self.memory())
        let good = ring.memory.segment([1, 2, 3, 4])
        for placement in [Chain.Placement.direct, .indirect] {
            for place in 0..<4 {
                var segments = [good, good, good, good]
                segments[place] = segment
                ring.driver.offer(
                    Chain(
                        readable: Array(segments[0..<2]), writable: Array(segments[2..<4]),
                        placement: placement))
                ring.offer(9)
                let cut = try #require(try ring.take())
                #expect(cut.isCut)
                #expect(cut.readableLength == [0, 4, 8, 8][place])
                #expect(cut.writableLength == [8, 8, 0, 4][place])
                #expect(ring.readableBytes(of: cut).count == [0, 4, 8, 8][place])
                #expect(cut.descriptorCount == (placement == .direct ? 4 : 1))
                let next = try #require(try ring.take())
                #expect(!next.isCut && ring.readableBytes(of: next)[0] == 9)
                // As any other it can be handed back, and is put with what was written.
                ring.queue.handBack(2)
                let again = try #require(try ring.take())
                #expect(again.isCut && again.writableLength == cut.writableLength)
                _ = try ring.take()
                ring.queue.put(
                    UsedBuffer(id: again.id, writtenLength: UInt32(again.writableLength)))
                ring.queue.put(UsedBuffer(id: next.id, writtenLength: 0))
                ring.queue.flush()
                let lengths = try ring.driver.reapAll().map(\.writtenLength)
                #expect(lengths == [UInt32(again.writableLength), 0])
            }
        }
        #expect(ring.queue.breakage == nil)
    }

    @Test(
        "is one that is wrong besides being outside memory", arguments: RingFormat.allCases)
    func outsideMemoryAndWrong(format: RingFormat) throws {
        for order in [[2, 0], [2, 2, 0]] as [[UInt16]] {
            try Self.expectBreak(format) { ring in
                ring.driver.offerRaw(
                    order.enumerated().map { index, flags in
                        RawDescriptor(
                            address: 0x20_0000, length: 1,
                            flags: flags | (index + 1 < order.count ? 1 : 0))
                    })
            }
        }
        let longest = 0xffff_ffff
        try Self.expectBreak(format, .bufferTooLong(byteCount: 2 * UInt64(longest))) { ring in
            ring.driver.offer(
                Chain(
                    readable: [Segment(at: 0x20_0000, byteCount: longest)],
                    writable: [Segment(at: 0x20_0000, byteCount: longest)]))
        }
    }

    @Test("is none with a stretch that two adjoining regions hold", arguments: RingFormat.allCases)
    func acrossRegions(format: RingFormat) throws {
        let memory = try Self.memory()
        let ring = try RingContext(format, RingOptions(size: 8), in: memory)
        memory.write([1, 2, 3, 4], at: 0x40_FFFC)
        memory.write([5, 6, 7], at: 0x41_0000)
        ring.driver.offer(
            Chain(
                readable: [Segment(at: 0x40_FFFC, byteCount: 7)],
                writable: [Segment(at: 0x40_FFFE, byteCount: 4)]))
        let buffer = try #require(try ring.take())
        #expect(ring.readableBytes(of: buffer) == [1, 2, 3, 4, 5, 6, 7])
        #expect(buffer.readablePieceCount == 2)
        #expect(buffer.writablePieceCount == 2)
        #expect(buffer.readableLength == 7)
        #expect(buffer.writableLength == 4)
        ring.write([9, 10, 11, 12], to: buffer)
        #expect(memory.read(at: 0x40_FFFC, count: 4) == [1, 2, 9, 10])
        #expect(memory.read(at: 0x41_0000, count: 3) == [11, 12, 7])
    }

    @Test("is none at the first or last bytes of a region", arguments: RingFormat.allCases)
    func borders(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 8), in: try Self.memory())
        for segment in [
            Segment(at: 0x1F_FFFF, byteCount: 1), Segment(at: 0x40_0000, byteCount: 0x2_0000),
            Segment(at: 0xFFFF_FFFF_FFFF_0000, byteCount: 0xFFFF),
            Segment(at: 0xFFFF_FFFF_FFFF_FFFE, byteCount: 1),
        ] {
            ring.driver.offer(Chain(writable: [segment]))
            let buffer = try #require(try ring.take())
            #expect(buffer.writableLength == UInt64(segment.byteCount))
            ring.write([7], to: buffer)
            #expect(ring.memory.read(at: segment.address, count: 1) == [7])
            ring.finish()
            _ = try ring.driver.reapAll()
        }
    }

    @Test(
        "is one with a readable descriptor after a writable one (virtio 1.3 §2.7.4.2)",
        arguments: RingFormat.allCases)
    func readableAfterWritable(format: RingFormat) throws {
        let shapes: [[UInt16]] = [[2, 0], [0, 2, 0], [2, 2, 0], [2, 0, 2]]
        for shape in shapes {
            for isIndirect in [false, true] {
                try Self.expectBreak(format) { ring in
                    let address = ring.memory.allocate(byteCount: 16)
                    let link: UInt16 = isIndirect && format == .packed ? 0 : 1
                    let chain = shape.enumerated().map { position, flags in
                        RawDescriptor(
                            address: address, length: 4,
                            flags: flags | (position < shape.count - 1 ? link : 0))
                    }
                    ring.driver.offerRaw(isIndirect ? [ring.driver.indirectTable(chain)] : chain)
                }
            }
        }
    }

    @Test(
        "is one with an indirect descriptor that was not negotiated",
        arguments: RingFormat.allCases)
    func indirectNotNegotiated(format: RingFormat) throws {
        try Self.expectBreak(format, indirect: false, .indirectNotNegotiated) { ring in
            let chain = RawDescriptor(address: ring.memory.allocate(byteCount: 16), length: 4)
            ring.driver.offerRaw([ring.driver.indirectTable([chain])])
        }
    }

    @Test(
        "is one with a table of no whole number of descriptors",
        arguments: RingFormat.allCases,
        [0, 1, 15, 17, 31, 33, 16 * 65536, 0x7FFF_FFF0, 0xFFFF_FFF0, 0xFFFF_FFFF] as [UInt32])
    func indirectLength(format: RingFormat, length: UInt32) throws {
        try Self.expectBreak(format) { ring in
            let good = RawDescriptor(address: ring.memory.allocate(byteCount: 16), length: 4)
            var table = ring.driver.indirectTable([good, good])
            table.length = length
            ring.driver.offerRaw([table])
        }
    }

    @Test(
        "is one with a table outside memory", arguments: RingFormat.allCases,
        [
            0, 0x0F_FFF8, 0x1F_FFF8, 0x20_0000, 0x41_FFF1, 1 << 63, 0xFFFF_FFFF_FFFF_FFF0,
            0xFFFF_FFFF_FFFF_FFF8,
        ] as [UInt64])
    func indirectOutside(format: RingFormat, address: UInt64) throws {
        let expected = VirtqueueError.indirectTableOutsideMemory(
            GuestAddress(address), byteCount: 16)
        try Self.expectBreak(format, expected) { ring in
            ring.driver.offerRaw([RawDescriptor(address: address, length: 16, flags: 4)])
        }
    }

    @Test(
        "is none with a table at an odd address, or across two regions",
        arguments: RingFormat.allCases, [0x40_0001, 0x40_000F, 0x40_FFF0, 0x40_FFE1] as [UInt64])
    func indirectAnywhere(format: RingFormat, address: UInt64) throws {
        let memory = try Self.memory()
        let ring = try RingContext(format, RingOptions(size: 8), in: memory)
        let link: UInt16 = format == .split ? 1 : 0
        let first = memory.segment([1, 2])
        let second = memory.segment([3])
        let chain = [
            RawDescriptor(address: first.address, length: 2, flags: link),
            RawDescriptor(address: second.address, length: 1),
        ]
        // A table is written piece by piece, as it may cross from one region to the next.
        let scratch = ring.driver.indirectTable(chain)
        for (offset, byte) in memory.read(at: scratch.address, count: 32).enumerated() {
            memory.write([byte], at: address + UInt64(offset))
        }
        ring.driver.offerRaw([RawDescriptor(address: address, length: 32, flags: 4)])
        let buffer = try #require(try ring.take())
        #expect(ring.readableBytes(of: buffer) == [1, 2, 3])
    }

    @Test(
        "is one with a table in a table (virtio 1.3 §2.7.5.3.1)", arguments: [RingFormat.split])
    func nestedIndirect(format: RingFormat) throws {
        try Self.expectBreak(format, .nestedIndirect) { ring in
            let good = RawDescriptor(address: ring.memory.allocate(byteCount: 16), length: 4)
            let inner = ring.driver.indirectTable([good])
            ring.driver.offerRaw([ring.driver.indirectTable([inner])])
        }
    }

    @Test(
        "is one with a table and a next descriptor (virtio 1.3 §2.7.5.3.1)",
        arguments: RingFormat.allCases)
    func indirectWithNext(format: RingFormat) throws {
        try Self.expectBreak(format, .indirectWithNext) { ring in
            let good = RawDescriptor(address: ring.memory.allocate(byteCount: 16), length: 4)
            var table = ring.driver.indirectTable([good])
            table.flags |= 1
            ring.driver.offerRaw([table, good])
        }
    }

    @Test("leaves nothing behind when it breaks first", arguments: RingFormat.allCases)
    func first(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 4), in: try Self.memory())
        ring.driver.offerRaw([
            RawDescriptor(address: 0, length: 1, flags: RawDescriptor.indirect)
        ])
        for _ in 0..<3 { #expect(throws: VirtqueueError.self) { try ring.take() } }
        #expect(ring.queue.outstandingCount == 0)
        let calls = CallCounter()
        ring.queue.whenDrained { calls.count += 1 }
        #expect(calls.count == 1)
    }

    @Test(
        "is survived by the device loop, which neither spins nor loses",
        arguments: RingFormat.allCases)
    func deviceLoop(format: RingFormat) throws {
        for batching in [
            TestDevice.Batching.one, .putOne(batch: 3), .putMany(batch: 64), .handBack(batch: 4),
        ] {
            let ring = try RingContext(format, RingOptions(size: 8), in: try Self.memory())
            let device = TestDevice(batching: batching)
            for byte: UInt8 in 1...5 { ring.offer(byte) }
            ring.driver.offerRaw([
                RawDescriptor(address: 0, length: 1, flags: RawDescriptor.indirect)
            ])
            ring.offer(6)
            #expect(device.run(ring.queue) == 5)
            #expect(device.run(ring.queue) == 0)
            #expect(device.breakage != nil)
            #expect(try ring.reapedTags() == [1, 2, 3, 4, 5])
        }
    }
}
