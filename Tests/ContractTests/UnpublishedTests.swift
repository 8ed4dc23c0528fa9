// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

@Suite("Buffers that were put and not published")
struct UnpublishedTests {
    /// A driver cannot know of them; one that offers their places again is wrong, not fatal.
    @Test("may be more than the ring holds, when the driver cheats", arguments: [1, 2, 3, 4])
    func packedOverrun(size: Int) throws {
        let memory = try TestMemory()
        let ring = try RingContext(.packed, RingOptions(size: size), in: memory, logsRing: true)
        let driver = try #require(ring.driver as? PackedDriver)
        ring.deviceMemory.dirtyLog = RecordingDirtyLog()
        let address = memory.allocate(byteCount: 16)
        for position in 0..<7 * size {
            let isFirstLap = position / size % 2 == 0
            driver.setDescriptor(
                at: position,
                to: RawDescriptor(address: address, length: 4, flags: isFirstLap ? 0x80 : 0x8000))
            guard let buffer = try ring.take() else { break }
            ring.put(buffer)
        }
        ring.queue.flush()
        ring.queue.signal()
        #expect(ring.queue.outstandingCount == 0)
    }

    @Test("are not the driver's to offer again: a split ring is broken by it")
    func splitOverrun() throws {
        let memory = try TestMemory()
        let ring = try RingContext(.split, RingOptions(size: 2), in: memory, logsRing: true)
        let driver = try #require(ring.driver as? SplitDriver)
        ring.deviceMemory.dirtyLog = RecordingDirtyLog()
        let address = memory.allocate(byteCount: 16)
        driver.setDescriptor(at: 0, to: RawDescriptor(address: address, length: 4))
        for index in 1...2 {
            driver.availableIndex = UInt16(index)
            let buffer = try #require(try ring.take())
            ring.put(buffer)
        }
        driver.availableIndex = 3
        #expect(throws: VirtqueueError.availableIndexJump(from: 2, to: 3, size: 2)) {
            try ring.take()
        }
        ring.queue.flush()
        ring.queue.signal()
        #expect(ring.queue.outstandingCount == 0)
    }
}
