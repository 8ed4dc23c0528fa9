// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

@Suite("A broken packed ring")
struct MalformedPackedTests {
    private func good(_ ring: RingContext, flags: UInt16 = 0) -> RawDescriptor {
        RawDescriptor(address: ring.memory.allocate(byteCount: 16), length: 4, flags: flags)
    }

    @Test("is one with a chain as long as the ring that still goes on (virtio 1.3 §2.8.6)")
    func endless() throws {
        for size in 1...8 {
            for start in 0..<UInt32(2 * size) {
                let ring = try RingContext(.packed, RingOptions(size: size, start: start))
                ring.driver.offerRaw((0..<size).map { _ in good(ring, flags: 1) })
                #expect(throws: VirtqueueError.self) { try ring.take() }
                #expect(!ring.queue.requestNotifications())
                #expect(ring.queue.outstandingCount == 0)
            }
        }
    }

    @Test("may wait for the rest of a chain, or break, but not run past it")
    func cutOff() throws {
        let ring = try RingContext(.packed, RingOptions(size: 8))
        ring.offer(1)
        ring.driver.offerRaw([good(ring, flags: 1), good(ring, flags: 1)])
        let buffer = try #require(try ring.take())
        #expect(ring.readableBytes(of: buffer) == [1, 1, 1, 1])
        do {
            #expect(try ring.take() == nil)
            #expect(!ring.queue.requestNotifications())
        } catch {
            #expect(ring.queue.breakage == error)
        }
        ring.finish()
        #expect(try ring.reapedTags() == [1])
    }

    @Test("ignores flags in a table that mean something outside only (virtio 1.3 §2.8.7)")
    func tableFlags() throws {
        let ring = try RingContext(.packed, RingOptions(size: 4))
        let noise: UInt16 = 0xFFFF & ~(2 | 4)
        let table = ring.driver.indirectTable([
            good(ring, flags: noise), good(ring, flags: noise | 2),
        ])
        ring.driver.offerRaw([table])
        let buffer = try #require(try ring.take())
        #expect(buffer.readableLength == 4)
        #expect(buffer.writableLength == 4)
    }

    @Test("ignores the WRITE flag of what refers to a table (virtio 1.3 §2.8.7)")
    func writeFlagOfTable() throws {
        for format in RingFormat.allCases {
            let ring = try RingContext(format, RingOptions(size: 4))
            var table = ring.driver.indirectTable([good(ring)])
            table.flags |= 2
            ring.driver.offerRaw([table])
            let buffer = try #require(try ring.take())
            #expect(buffer.readableLength == 4)
            #expect(buffer.writableLength == 0)
        }
    }

    @Test("cannot make the device give a buffer back twice by offering an id twice")
    func duplicate() throws {
        let ring = try RingContext(.packed, RingOptions(size: 4))
        let id = try #require(ring.offer(1))
        var copy = good(ring)
        copy.link = id
        ring.driver.offerRaw([copy])
        try ring.take()
        #expect(throws: VirtqueueError.alreadyTaken(id: id)) { try ring.take() }
        ring.finish()
        #expect(try ring.reapedTags() == [1])
    }

    @Test(
        "cannot upset the device by an id that no ring of its size needs",
        arguments: [4, 0x7FFF, 0x8000, 0xFFFF] as [UInt16])
    func wildID(id: UInt16) throws {
        let ring = try RingContext(.packed, RingOptions(size: 4))
        ring.offer(1)
        try ring.take()
        var wild = good(ring)
        wild.link = id
        ring.driver.offerRaw([wild])
        do {
            let buffer = try #require(try ring.take())
            #expect(buffer.id == id)
        } catch is VirtqueueError {
            #expect(ring.queue.breakage != nil)
        }
        ring.finish()
        #expect(try ring.driver.reap()?.tag == 1)
    }

    @Test("takes no descriptor whose flags are those of another lap")
    func otherLap() throws {
        let ring = try RingContext(.packed, RingOptions(size: 4))
        let driver = try #require(ring.driver as? PackedDriver)
        // Not available: AVAIL and USED both clear, both set, or AVAIL clear and USED set.
        for flags: UInt16 in [0x0000, 0x8080, 0x8000] {
            driver.setFlags(at: 0, to: flags)
            #expect(try ring.take() == nil)
            #expect(!ring.queue.requestNotifications())
        }
    }
}
