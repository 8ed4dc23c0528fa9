// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

@Suite("A broken split ring")
struct MalformedSplitTests {
    private func good(_ ring: RingContext) -> RawDescriptor {
        RawDescriptor(address: ring.memory.allocate(byteCount: 16), length: 4)
    }

    private func linked(_ ring: RingContext, to link: UInt16) -> RawDescriptor {
        var descriptor = good(ring)
        descriptor.flags = 1
        descriptor.link = link
        return descriptor
    }

    @Test(
        "is one whose next index lies outside the table (virtio 1.3 §2.7.5)",
        arguments: [8, 9, 0x7FFF, 0x8000, 0xFFFF] as [UInt16])
    func nextOutOfRange(next: UInt16) throws {
        try MalformedChainTests.expectBreak(.split, .nextOutOfRange(index: next, limit: 8)) {
            $0.driver.offerRaw([linked($0, to: next)])
        }
        try MalformedChainTests.expectBreak(.split, .nextOutOfRange(index: next, limit: 2)) {
            $0.driver.offerRaw([
                $0.driver.indirectTable([linked($0, to: next), good($0)])
            ])
        }
    }

    @Test("is one with a chain that loops (virtio 1.3 §2.7.5.2)")
    func loops() throws {
        // The first two buffers take descriptors 0 and 1; the bad chain starts at 2.
        for links in [[2], [3, 2], [3, 3], [3, 4, 5, 3]] as [[UInt16]] {
            try MalformedChainTests.expectBreak(.split) { ring in
                ring.driver.offerRaw(links.map { linked(ring, to: $0) })
            }
        }
    }

    @Test("is one with a table that loops")
    func loopsInTable() throws {
        for links in [[0], [1, 0], [1, 1], [1, 2, 1]] as [[UInt16]] {
            try MalformedChainTests.expectBreak(.split) { ring in
                ring.driver.offerRaw([
                    ring.driver.indirectTable(links.map { linked(ring, to: $0) })
                ])
            }
        }
    }

    @Test("is one with a head outside the table", arguments: [8, 9, 0x8000, 0xFFFF] as [UInt16])
    func headOutOfRange(head: UInt16) throws {
        try MalformedChainTests.expectBreak(.split, .headOutOfRange(index: head, size: 8)) { ring in
            let driver = ring.driver as? SplitDriver
            driver?.setAvailable(at: driver?.availableIndex ?? 0, to: head)
            driver?.availableIndex &+= 1
            // The buffer behind goes where the driver thinks that the bad one stands.
            driver?.skipAvailable(1)
        }
    }

    @Test(
        "is one whose available index runs ahead of the ring",
        arguments: [5, 6, 0x7FFF, 0x8000, 0xFFFF] as [UInt16])
    func availableIndexJump(jump: UInt16) throws {
        for start: UInt32 in [0, 0xFFFE] {
            let ring = try RingContext(.split, RingOptions(size: 4, start: start))
            let driver = try #require(ring.driver as? SplitDriver)
            ring.offer(1)
            try ring.take()
            driver.availableIndex = UInt16(start) &+ 1 &+ jump
            #expect(throws: VirtqueueError.self) { try ring.take() }
            #expect(
                ring.queue.breakage
                    == .availableIndexJump(
                        from: UInt16(start) &+ 1, to: UInt16(start) &+ 1 &+ jump, size: 4))
            #expect(!ring.queue.requestNotifications())
            ring.finish()
            #expect(try ring.reapedTags() == [1])
        }
    }

    @Test("is one whose available index goes back behind what was taken")
    func availableIndexGoesBack() throws {
        let ring = try RingContext(.split, RingOptions(size: 4))
        let driver = try #require(ring.driver as? SplitDriver)
        for byte: UInt8 in 1...3 { ring.offer(byte) }
        try ring.takeAll()
        driver.availableIndex = 1
        #expect(throws: VirtqueueError.self) { try ring.take() }
        ring.finish()
        #expect(try ring.reapedTags() == [1, 2, 3])
    }

    @Test("cannot make the device give a buffer back twice by offering it twice")
    func duplicate() throws {
        let ring = try RingContext(.split, RingOptions(size: 4))
        let driver = try #require(ring.driver as? SplitDriver)
        ring.offer(1)
        driver.setAvailable(at: 1, to: 0)
        driver.availableIndex = 2
        try ring.take()
        #expect(throws: VirtqueueError.alreadyTaken(id: 0)) { try ring.take() }
        ring.finish()
        #expect(try ring.reapedTags() == [1])
    }

    @Test("may offer a descriptor again as soon as it is used")
    func reuse() throws {
        let ring = try RingContext(.split, RingOptions(size: 1))
        for byte: UInt8 in 0...255 {
            #expect(ring.offer(byte) == 0)
            #expect(try ring.takeAll().count == 1)
            ring.finish()
            #expect(try ring.reapedTags() == [Int(byte)])
        }
    }
}
