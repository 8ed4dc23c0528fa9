// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

/// The driver is the yardstick of the ring tests; these compare it with the bytes that the
/// specification draws.
@Suite("The test driver")
struct DriverLayoutTests {
    let memory: TestMemory

    init() throws {
        memory = try TestMemory(byteCount: 1 << 20, at: 0x1000)
    }

    @Test("lays out a split chain as struct virtq_desc and virtq_avail (virtio 1.3 §2.7.5, §2.7.6)")
    func splitLayout() throws {
        let driver = SplitDriver(in: memory, RingOptions(size: 4, start: 0xFFFE, eventIndex: false))
        let chain = Chain(
            readable: [Segment(at: 0x1122_3344_5566_7788, byteCount: 0x0102_0304)],
            writable: [Segment(at: 0xA0, byteCount: 0x10)])
        #expect(driver.add(chain, tag: 0) == 0)
        #expect(driver.add(Chain(readable: chain.readable), tag: 0) == 2)
        #expect(memory.load(UInt16.self, at: driver.availableAddress + 2) == 0xFFFE)
        #expect(driver.publish())
        #expect(
            memory.read(at: driver.descriptorAddress, count: 32) == [
                0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 4, 3, 2, 1, 1, 0, 1, 0,
                0xA0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 2, 0, 0, 0,
            ])
        #expect(
            memory.read(at: driver.availableAddress, count: 14) == [
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0,
            ])
        #expect(driver.configuration.base == 0)
    }

    @Test("lays out a packed chain as struct pvirtq_desc, on both laps (virtio 1.3 §2.8.13)")
    func packedLayout() throws {
        let driver = PackedDriver(in: memory, RingOptions(size: 3, start: 2, eventIndex: false))
        let chain = Chain(
            readable: [Segment(at: 0x1122_3344_5566_7788, byteCount: 0x0102_0304)],
            writable: [Segment(at: 0xA0, byteCount: 0x10)])
        #expect(driver.configuration.base == 0x8002_8002)
        #expect(driver.add(chain, tag: 0) == 0)
        // What is not published is hidden by the flags of its first descriptor.
        #expect(driver.flags(at: 2) == 0)
        #expect(driver.publish())
        #expect(
            memory.read(at: driver.descriptorAddress + 32, count: 16) == [
                0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 4, 3, 2, 1, 0, 0, 0x81, 0x00,
            ])
        #expect(
            memory.read(at: driver.descriptorAddress, count: 16) == [
                0xA0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0x02, 0x80,
            ])
        #expect(driver.configuration.base == 0x0001_0001)
    }

    @Test("points to a table of its own for an indirect chain (virtio 1.3 §2.7.5.3, §2.8.7)")
    func indirectLayout() throws {
        let chain = Chain(
            readable: [Segment(at: 0x10, byteCount: 1)],
            writable: [Segment(at: 0x20, byteCount: 2)],
            placement: .indirect)
        let split = SplitDriver(in: memory, RingOptions(size: 2))
        _ = split.add(chain, tag: 0)
        #expect(memory.load(UInt32.self, at: split.descriptorAddress + 8) == 32)
        #expect(memory.load(UInt16.self, at: split.descriptorAddress + 12) == 4)
        let table = memory.load(UInt64.self, at: split.descriptorAddress)
        #expect(
            memory.read(at: table, count: 32) == [
                0x10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0,
                0x20, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 2, 0,
            ])
        let packed = PackedDriver(in: memory, RingOptions(size: 1))
        _ = packed.add(chain, tag: 0)
        _ = packed.publish()
        #expect(packed.flags(at: 0) == 0x0084)
        let packedTable = memory.load(UInt64.self, at: packed.descriptorAddress)
        #expect(
            memory.read(at: packedTable, count: 32) == [
                0x10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
                0x20, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 0,
            ])
    }
}
