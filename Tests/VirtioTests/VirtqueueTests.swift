// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing
import Virtio

@Suite("A virtqueue")
struct VirtqueueTests {
    static let formats = RingFormat.allCases

    private func queue(
        _ format: RingFormat, _ options: RingOptions = RingOptions(size: 8)
    ) throws -> (driver: any RingDriver, queue: Virtqueue, notifier: SignalCounter) {
        let memory = try TestMemory()
        let driver = format.makeDriver(in: memory, options)
        let notifier = SignalCounter()
        let queue = try Virtqueue(
            driver.configuration, memory: try memory.deviceMemory(), notifier: notifier)
        return (driver, queue, notifier)
    }

    @Test("carries bytes there and back, around the ring", arguments: formats)
    func roundTrip(_ format: RingFormat) throws {
        for placement in [Chain.Placement.direct, .indirect] {
            let (driver, queue, _) = try queue(format)
            let device = TestDevice(batching: .handBack(batch: 3))
            for round in 0..<100 {
                for tag in 0..<2 {
                    let bytes = [UInt8](repeating: UInt8(round), count: 20 + tag)
                    driver.offer(
                        readable: [bytes, bytes], writable: [30], placement: placement, tag: tag)
                }
                #expect(device.run(queue) == 2)
                let back = try driver.reapAll()
                #expect(back.map(\.tag) == [0, 1])
                #expect(back.map(\.writtenLength) == [30, 30])
                for buffer in back {
                    #expect(driver.writtenBytes(of: buffer).allSatisfy { $0 == UInt8(round) })
                }
            }
            #expect(queue.outstandingCount == 0)
        }
    }

    @Test("reports the first buffer that was not taken as its base", arguments: formats)
    func base(_ format: RingFormat) throws {
        let (driver, queue, _) = try queue(format)
        var pieces = IOVectorArray(capacity: 1)
        for _ in 0..<3 { driver.offer(readable: [[1], [2]]) }
        let first = try #require(try queue.take(&pieces))
        let second = try #require(try queue.take(&pieces))
        #expect(second.id != first.id)
        queue.put(UsedBuffer(id: first.id, writtenLength: 0))
        queue.put(UsedBuffer(id: second.id, writtenLength: 0))
        queue.flush()
        #expect(queue.base == (format == .split ? 2 : 0x8004_8004))
        #expect(try queue.take(&pieces) != nil)
    }

    @Test("is drained once everything taken was put and flushed", arguments: formats)
    func drained(_ format: RingFormat) throws {
        let (driver, queue, _) = try queue(format)
        var pieces = IOVectorArray(capacity: 1)
        var isDrained = false
        driver.offer(readable: [[1]])
        let buffer = try #require(try queue.take(&pieces))
        queue.whenDrained { isDrained = true }
        queue.put(UsedBuffer(id: buffer.id, writtenLength: 0))
        #expect(!isDrained)
        queue.flush()
        #expect(isDrained)
    }

    @Test("stops the program when a buffer is put twice")
    func doublePut() async {
        await #expect(processExitsWith: .failure) {
            let memory = try TestMemory()
            let driver = RingFormat.split.makeDriver(in: memory, RingOptions(size: 8))
            let queue = try Virtqueue(
                driver.configuration, memory: try memory.deviceMemory(), notifier: nil)
            var pieces = IOVectorArray(capacity: 1)
            driver.offer(readable: [[1]])
            guard let buffer = try queue.take(&pieces) else { return }
            queue.put(UsedBuffer(id: buffer.id, writtenLength: 0))
            queue.put(UsedBuffer(id: buffer.id, writtenLength: 0))
        }
    }

    @Test(
        "delivers the good buffers before a bad one, then says the same again", arguments: formats)
    func badBuffer(_ format: RingFormat) throws {
        let (driver, queue, _) = try queue(format)
        var pieces = IOVectorArray(capacity: 1)
        driver.offer(readable: [[1]])
        driver.offerRaw([RawDescriptor(address: 0x10, length: 5, flags: RawDescriptor.indirect)])
        driver.offer(readable: [[1]])
        let buffer = try #require(try queue.take(&pieces))
        let error = VirtqueueError.indirectTableLength(byteCount: 5, limit: 1026)
        #expect(throws: error) { try queue.take(&pieces) }
        #expect(throws: error) { try queue.take(&pieces) }
        #expect(queue.breakage == error)
        #expect(!queue.requestNotifications())
        #expect(queue.base & 0x7fff == 1)
        queue.put(UsedBuffer(id: buffer.id, writtenLength: 0))
        queue.flush()
        #expect(try driver.reapAll().count == 1)
    }

    @Test("keeps what is put while its ring is not in memory", arguments: formats)
    func detached(_ format: RingFormat) throws {
        let memory = try TestMemory()
        let driver = format.makeDriver(in: memory, RingOptions(size: 8))
        let guest = try memory.deviceMemory()
        let queue = try Virtqueue(driver.configuration, memory: guest, notifier: nil)
        var pieces = IOVectorArray(capacity: 1)
        for _ in 0..<2 { driver.offer(readable: [[1]]) }
        let buffer = try #require(try queue.take(&pieces))
        guest.removeAll()
        #expect(throws: VirtqueueError.self) { try queue.revalidate() }
        #expect(try queue.take(&pieces) == nil)
        queue.put(UsedBuffer(id: buffer.id, writtenLength: 0))
        queue.flush()
        #expect(!driver.hasUsed)
        try memory.insert(region: 0, into: guest)
        try queue.revalidate()
        queue.flush()
        #expect(try driver.reapAll().count == 1)
        #expect(try queue.take(&pieces) != nil)
    }
}
