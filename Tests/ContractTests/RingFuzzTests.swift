// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Synchronization
import Testing
import Virtio

/// A driver that writes whatever it likes must not make the device crash, spin, or touch memory that
/// is not the guest's.
@Suite("A malicious driver")
struct RingFuzzTests {
    @Test("gets nowhere with random programs", arguments: 0..<4)
    func programs(part: Int) throws {
        let fuzzer = try RingFuzzer()
        var generator = SeededGenerator(seed: .random(in: 0 ... .max))
        for _ in 0..<4000 {
            let program = (0..<16 + generator.below(300)).map { _ in
                UInt8(truncatingIfNeeded: generator.next())
            }
            guard let failure = fuzzer.run(program) else { continue }
            Issue.record("\(failure), by \(program)")
            return
        }
        // The programs are worth something: the device gets work done and finds faults of many kinds.
        #expect(fuzzer.bufferCount > 10_000)
        #expect(fuzzer.faults.count >= 8)
    }

    @Test(
        "gets nowhere by changing the ring while the device reads it",
        arguments: RingFormat.allCases)
    func racing(format: RingFormat) throws {
        let memory = try TestMemory(byteCount: 1 << 20, fileOffset: 528)
        let driver = format.makeDriver(in: memory, RingOptions(size: 16))
        let deviceMemory = try memory.deviceMemory()
        let race = RingRace(memory: memory, driver: driver)
        let mutator = try startThread(name: "driver") { race.scribble() }
        defer {
            race.isOver.store(true, ordering: .relaxed)
            joinThread(mutator)
        }
        let device = TestDevice(batching: .handBack(batch: 5))
        for _ in 0..<30_000 {
            let queue = try Virtqueue(driver.configuration, memory: deviceMemory, notifier: nil)
            for _ in 0..<4 { device.serveBatch(queue) }
            _ = queue.requestNotifications()
            #expect(queue.outstandingCount == 0)
        }
        #expect(device.bufferCount > 0)
        #expect(memory.canariesAreIntact)
    }
}

/// A thread that keeps writing to a ring what may make the most trouble.
private final class RingRace: Sendable {
    let isOver = Atomic<Bool>(false)
    private let memory: TestMemory
    private let driver: any RingDriver

    init(memory: TestMemory, driver: any RingDriver) {
        self.memory = memory
        self.driver = driver
    }

    func scribble() {
        var generator = SeededGenerator(seed: 1)
        while !isOver.load(ordering: .relaxed) {
            let table = 16 * generator.below(16)
            if let split = driver as? SplitDriver {
                corrupt(split.descriptorArea, at: table, flagsAt: 12, &generator)
                split.setAvailable(
                    at: UInt16(generator.below(16)), to: UInt16(generator.below(18)))
                split.availableIndex = UInt16(generator.below(17))
            } else if let packed = driver as? PackedDriver {
                corrupt(packed.descriptorArea, at: table, flagsAt: 14, &generator)
            }
        }
    }

    private func corrupt(
        _ area: SharedArea, at place: Int, flagsAt flags: Int, _ generator: inout SeededGenerator
    ) {
        let start = memory.regions[0].guestAddress
        let addresses = [start, start + 0xF_FFF0, start - 1, start + 16 * 1024, 0, 1 << 60]
        area.store64(place, addresses[generator.below(addresses.count)])
        area.store32(place + 8, [0, 16, 64, 0x10_0000, 0xFFFF_FFF0][generator.below(5)])
        area.store16(place + (26 - flags), UInt16(generator.below(18)))
        let available: UInt16 = generator.oneIn(2) ? 0x80 : 0x8000
        area.store16(place + flags, UInt16(generator.below(8)) | available)
    }
}
