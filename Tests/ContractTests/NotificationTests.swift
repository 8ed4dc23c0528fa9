// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

@Suite("Notifications of a ring")
struct NotificationTests {
    static let withAndWithout = [true, false]

    @Test(
        "to the device: the next buffer kicks after they were requested",
        arguments: SmallRing.all, withAndWithout)
    func request(small: SmallRing, eventIndex: Bool) throws {
        for start in small.starts {
            let options = RingOptions(size: small.size, start: start, eventIndex: eventIndex)
            let ring = try RingContext(small.format, options, in: TestMemory(byteCount: 65536))
            let chain = Chain(readable: [ring.memory.segment([1])])
            for _ in 0..<2 * small.size {
                ring.queue.suppressNotifications()
                #expect(!ring.queue.requestNotifications())
                _ = ring.driver.add(chain, tag: 0)
                #expect(ring.driver.publish())
                #expect(ring.queue.requestNotifications())
                try ring.takeAll()
                ring.finish()
                _ = try ring.driver.reapAll()
            }
        }
    }

    @Test(
        "to the device: none comes while they are suppressed", arguments: RingFormat.allCases,
        withAndWithout)
    func suppress(format: RingFormat, eventIndex: Bool) throws {
        let ring = try RingContext(format, RingOptions(size: 4, eventIndex: eventIndex))
        let chain = Chain(readable: [ring.memory.segment([1])])
        #expect(!ring.queue.requestNotifications())
        _ = ring.driver.add(chain, tag: 0)
        #expect(ring.driver.publish())
        ring.queue.suppressNotifications()
        // Until the index has gone round, which takes 2^16 buffers in a split ring.
        for _ in 0..<100 {
            try ring.takeAll()
            ring.finish()
            _ = try ring.driver.reapAll()
            _ = ring.driver.add(chain, tag: 0)
            #expect(!ring.driver.publish())
        }
    }

    @Test(
        "to the device: a buffer that came before they were requested is not missed",
        arguments: RingFormat.allCases, withAndWithout)
    func race(format: RingFormat, eventIndex: Bool) throws {
        let ring = try RingContext(format, RingOptions(size: 4, eventIndex: eventIndex))
        ring.queue.suppressNotifications()
        #expect(try ring.take() == nil)
        ring.offer(1)
        #expect(ring.queue.requestNotifications())
        ring.queue.suppressNotifications()
        #expect(try ring.takeAll().count == 1)
        #expect(!ring.queue.requestNotifications())
    }

    @Test(
        "to the device: a look tells whether there is a buffer", arguments: RingFormat.allCases,
        withAndWithout)
    func look(format: RingFormat, eventIndex: Bool) throws {
        let ring = try RingContext(format, RingOptions(size: 4, eventIndex: eventIndex))
        #expect(!ring.queue.hasAvailable)
        for byte: UInt8 in 1...2 { ring.offer(byte) }
        #expect(ring.queue.hasAvailable)
        try ring.take()
        #expect(ring.queue.hasAvailable)
        try ring.takeAll()
        #expect(!ring.queue.hasAvailable)
        ring.handBack(1)
        #expect(ring.queue.hasAvailable)
    }

    @Test(
        "to the device: buffers that were fetched and not taken, or handed back, count as there",
        arguments: RingFormat.allCases, withAndWithout)
    func fetched(format: RingFormat, eventIndex: Bool) throws {
        let ring = try RingContext(format, RingOptions(size: 4, eventIndex: eventIndex))
        for byte: UInt8 in 1...3 { ring.offer(byte) }
        try ring.take()
        #expect(ring.queue.requestNotifications())
        try ring.takeAll()
        #expect(!ring.queue.requestNotifications())
        ring.handBack(1)
        #expect(ring.queue.requestNotifications())
    }

    @Test(
        "to the driver: one for a batch, none for nothing", arguments: RingFormat.allCases,
        withAndWithout)
    func signalOnce(format: RingFormat, eventIndex: Bool) throws {
        let ring = try RingContext(format, RingOptions(size: 8, eventIndex: eventIndex))
        for _ in 0..<5 {
            ring.driver.requestSignals()
            for byte: UInt8 in 1...3 { ring.offer(byte) }
            let buffers = try ring.takeAll()
            ring.put(buffers)
            ring.queue.signal()
            #expect(ring.notifier.count == 0)
            ring.queue.flush()
            #expect(ring.notifier.count == 0)
            ring.queue.signal()
            #expect(ring.notifier.count == 1)
            ring.queue.signal()
            #expect(ring.notifier.count == 1)
            ring.notifier.count = 0
            _ = try ring.driver.reapAll()
        }
    }

    @Test(
        "to the driver: none while it suppresses them", arguments: RingFormat.allCases,
        withAndWithout)
    func signalSuppressed(format: RingFormat, eventIndex: Bool) throws {
        let ring = try RingContext(format, RingOptions(size: 4, eventIndex: eventIndex))
        ring.driver.requestSignals()
        try roundTrip(ring)
        for _ in 0..<20 {
            ring.notifier.count = 0
            ring.driver.suppressSignals()
            try roundTrip(ring)
            #expect(ring.notifier.count == 0)
        }
        ring.driver.requestSignals()
        try roundTrip(ring)
        #expect(ring.notifier.count == 1)
    }

    @Test(
        "to the driver: exactly when the buffer that it named is used", arguments: SmallRing.all)
    func eventIndex(small: SmallRing) throws {
        for start in small.starts {
            let options = RingOptions(size: small.size, start: start)
            let ring = try RingContext(small.format, options, in: TestMemory(byteCount: 65536))
            ring.driver.requestSignals()
            try roundTrip(ring)
            for named in 1...small.size {
                ring.notifier.count = 0
                #expect(!ring.driver.requestSignals(after: named))
                for count in 1...small.size {
                    try roundTrip(ring)
                    #expect(ring.notifier.count == (count >= named ? 1 : 0))
                }
            }
        }
    }

    @Test(
        "to the driver: when the buffer that it named lies anywhere in a batch",
        arguments: SmallRing.all)
    func eventIndexInBatch(small: SmallRing) throws {
        for start in small.starts {
            let options = RingOptions(size: small.size, start: start)
            let ring = try RingContext(small.format, options, in: TestMemory(byteCount: 65536))
            let chain = Chain(readable: [ring.memory.segment([1])])
            ring.driver.requestSignals()
            try roundTrip(ring)
            for named in 1...small.size {
                for count in 1...small.size {
                    ring.notifier.count = 0
                    ring.driver.requestSignals(after: named)
                    for _ in 0..<count { _ = ring.driver.add(chain, tag: 0) }
                    ring.driver.kick()
                    try ring.takeAll()
                    ring.finish()
                    #expect(ring.notifier.count == (named <= count ? 1 : 0))
                    _ = try ring.driver.reapAll()
                }
            }
        }
    }

    @Test(
        "to the driver: one to a new notifier for what it may not have been told of",
        arguments: RingFormat.allCases)
    func newNotifier(format: RingFormat) throws {
        let ring = try RingContext(format, RingOptions(size: 4))
        let unused = SignalCounter()
        ring.queue.notifier = unused
        ring.queue.notifierChanged()
        #expect(unused.count == 0)
        ring.driver.requestSignals()
        try roundTrip(ring)
        let next = SignalCounter()
        ring.queue.notifier = next
        ring.queue.notifierChanged()
        #expect(next.count == 1)
        ring.queue.notifier = nil
        ring.queue.notifierChanged()
        ring.driver.requestSignals()
        try roundTrip(ring)
    }

    /// One buffer there and back.
    private func roundTrip(_ ring: RingContext) throws {
        ring.offer(1)
        try ring.takeAll()
        ring.finish()
        for buffer in try ring.driver.reapAll() { ring.memory.free(buffer.chain) }
    }
}

@Suite("Event suppression of a packed ring (virtio 1.3 §2.8.14)")
struct PackedEventTests {
    @Test("follows the driver's flags: enable, disable, descriptor")
    func driverFlags() throws {
        let ring = try RingContext(.packed, RingOptions(size: 3))
        let driver = try #require(ring.driver as? PackedDriver)
        for (flags, signals) in [(0, 1), (1, 0), (0, 1)] as [(UInt16, Int)] {
            driver.driverEvent = (0x8000, flags)
            ring.notifier.count = 0
            ring.offer(1)
            try ring.takeAll()
            ring.finish()
            _ = try driver.reapAll()
            #expect(ring.notifier.count == signals)
        }
    }

    @Test("compares the place and the wrap counter that the driver names")
    func descriptorMode() throws {
        // Size 3 from place 2: buffers are used at 2 (lap 1), 0, 1, 2 (lap 0), 0 (lap 1).
        let places: [UInt16] = [0x8002, 0x0000, 0x0001, 0x0002, 0x8000]
        for named in places {
            let ring = try RingContext(.packed, RingOptions(size: 3, start: 2))
            let driver = try #require(ring.driver as? PackedDriver)
            // The first signal may be given in any case.
            driver.driverEvent = (named, 2)
            var signalled: [UInt16] = []
            for place in places {
                ring.notifier.count = 0
                ring.offer(1)
                try ring.takeAll()
                ring.finish()
                _ = try driver.reapAll()
                if ring.notifier.count > 0 && place != 0x8002 { signalled.append(place) }
            }
            #expect(signalled == (named == 0x8002 ? [] : [named]))
        }
    }

    @Test("counts the descriptors of a chain, not the buffers")
    func chain() throws {
        let ring = try RingContext(.packed, RingOptions(size: 8))
        let driver = try #require(ring.driver as? PackedDriver)
        ring.offer(1)
        try ring.takeAll()
        ring.finish()
        ring.notifier.count = 0
        // The chain covers places 1 to 3.
        driver.driverEvent = (0x8003, 2)
        ring.driver.offer(readable: [[1], [2], [3]])
        try ring.takeAll()
        ring.finish()
        #expect(ring.notifier.count == 1)
    }

    @Test("survives a place outside the ring and reserved flags")
    func nonsense() throws {
        let ring = try RingContext(.packed, RingOptions(size: 3))
        let driver = try #require(ring.driver as? PackedDriver)
        for event in [(0x7FFF, 2), (0xFFFF, 2), (0x8003, 2), (0, 3), (0, 0xFFFF)]
            as [(UInt16, UInt16)]
        {
            driver.driverEvent = (event.0, event.1)
            for _ in 0..<7 {
                ring.offer(1)
                #expect(try ring.takeAll().count == 1)
                ring.finish()
                _ = try driver.reapAll()
            }
        }
    }
}
