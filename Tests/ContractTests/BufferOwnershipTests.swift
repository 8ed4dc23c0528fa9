// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

/// A buffer is given back exactly once; anything else is a fault of ours, and loud.
@Suite("A buffer that was taken")
struct BufferOwnershipTests {
    @Test("cannot be put twice", arguments: RingFormat.allCases)
    func putTwice(format: RingFormat) async {
        await #expect(processExitsWith: .failure) { [format] in
            let ring = try RingContext(format, RingOptions(size: 4))
            for byte: UInt8 in 1...2 { ring.offer(byte) }
            let buffers = try ring.takeAll()
            ring.queue.put(UsedBuffer(id: buffers[0].id, writtenLength: 0))
            ring.queue.put(UsedBuffer(id: buffers[0].id, writtenLength: 0))
        }
    }

    @Test("cannot be put twice after it was published", arguments: RingFormat.allCases)
    func putAfterFlush(format: RingFormat) async {
        await #expect(processExitsWith: .failure) { [format] in
            let ring = try RingContext(format, RingOptions(size: 4))
            for byte: UInt8 in 1...2 { ring.offer(byte) }
            let buffers = try ring.takeAll()
            ring.queue.put(UsedBuffer(id: buffers[0].id, writtenLength: 0))
            ring.queue.flush()
            ring.queue.put(UsedBuffer(id: buffers[0].id, writtenLength: 0))
        }
    }

    @Test("cannot be put twice in one list", arguments: RingFormat.allCases)
    func putTwiceInList(format: RingFormat) async {
        await #expect(processExitsWith: .failure) { [format] in
            let ring = try RingContext(format, RingOptions(size: 4))
            for byte: UInt8 in 1...2 { ring.offer(byte) }
            let buffers = try ring.takeAll()
            let used = [buffers[1], buffers[1]].map { UsedBuffer(id: $0.id, writtenLength: 0) }
            ring.queue.put(used.span)
        }
    }

    @Test("cannot be put after it was handed back", arguments: RingFormat.allCases)
    func putAfterHandBack(format: RingFormat) async {
        await #expect(processExitsWith: .failure) { [format] in
            let ring = try RingContext(format, RingOptions(size: 4))
            for byte: UInt8 in 1...2 { ring.offer(byte) }
            let buffers = try ring.takeAll()
            ring.queue.handBack(1)
            ring.queue.put(UsedBuffer(id: buffers[1].id, writtenLength: 0))
        }
    }

    @Test(
        "is the only one that can be put", arguments: RingFormat.allCases,
        [0, 1, 4, 0xFFFF] as [UInt16])
    func putUntaken(format: RingFormat, id: UInt16) async {
        await #expect(processExitsWith: .failure) { [format, id] in
            let ring = try RingContext(format, RingOptions(size: 4))
            ring.offer(1)
            ring.offer(2)
            if id != 0 { _ = try ring.take() }
            ring.queue.put(UsedBuffer(id: id, writtenLength: 0))
        }
    }

    @Test("is the only one that can be handed back", arguments: RingFormat.allCases)
    func handBackTooMany(format: RingFormat) async {
        await #expect(processExitsWith: .failure) { [format] in
            let ring = try RingContext(format, RingOptions(size: 4))
            for byte: UInt8 in 1...3 { ring.offer(byte) }
            try ring.take(2)
            ring.queue.handBack(3)
        }
    }

    @Test("cannot be handed back after it was put", arguments: RingFormat.allCases)
    func handBackAfterPut(format: RingFormat) async {
        await #expect(processExitsWith: .failure) { [format] in
            let ring = try RingContext(format, RingOptions(size: 4))
            for byte: UInt8 in 1...2 { ring.offer(byte) }
            let buffers = try ring.takeAll()
            ring.queue.put(UsedBuffer(id: buffers[1].id, writtenLength: 0))
            ring.queue.handBack(1)
        }
    }

    @Test("leaves the program alone when all is well", arguments: RingFormat.allCases)
    func wellBehaved(format: RingFormat) async {
        await #expect(processExitsWith: .success) { [format] in
            let ring = try RingContext(format, RingOptions(size: 4))
            for byte: UInt8 in 1...3 { ring.offer(byte) }
            try ring.takeAll()
            ring.handBack(1)
            ring.finish()
        }
    }
}
