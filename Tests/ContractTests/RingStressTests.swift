// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Synchronization
import Testing
import Virtio

/// The driver in one thread and the device in another, with an eventfd each way: what one side
/// publishes must be whole when the other sees it, and no side may sleep while there is work.
///
/// x86-64 keeps stores in order and loads in order, so what shows here is a missing compiler barrier
/// and a missing full fence between "publish" and "does the other side want to know". arm64 would
/// show a missing acquire or release as well.
@Suite("Two threads on one ring", .serialized)
struct RingStressTests {
    @Test(
        "lose no buffer, no byte and no notification", arguments: RingFormat.allCases,
        [1, 2, 5, 256])
    func stress(format: RingFormat, size: Int) throws {
        let size = format == .split && size == 5 ? 4 : size
        for eventIndex in [true, false] {
            for batching in [TestDevice.Batching.one, .putMany(batch: 16), .handBack(batch: 8)] {
                let options = RingOptions(size: size, start: 65530, eventIndex: eventIndex)
                let stress = try RingStress(format, options, batching, total: 8_000)
                #expect(try stress.run() == nil, "\(format), \(options), \(batching)")
            }
        }
    }
}

/// One run of the two threads.
private final class RingStress: Sendable {
    private let memory: TestMemory
    private let driver: any RingDriver
    private let batching: TestDevice.Batching
    private let total: Int
    private let kick: Doorbell
    private let call: Doorbell
    private let deviceFailure = Mutex<String?>(nil)

    init(
        _ format: RingFormat, _ options: RingOptions, _ batching: TestDevice.Batching, total: Int
    ) throws {
        memory = try TestMemory()
        driver = format.makeDriver(in: memory, options)
        self.batching = batching
        self.total = total
        kick = try Doorbell()
        call = try Doorbell()
    }

    /// Returns what went wrong.
    func run() throws -> String? {
        let configuration = driver.configuration
        driver.onKick = { [kick] in kick.ring() }
        let device = try startThread(name: "device") {
            do {
                try self.runDevice(configuration)
            } catch {
                self.deviceFailure.withLock { $0 = "\(error)" }
            }
        }
        defer { joinThread(device) }
        if let failure = try runDriver() { return failure }
        return deviceFailure.withLock { $0 }
    }

    private func runDevice(_ configuration: VirtqueueConfiguration) throws {
        let notifier = SignalCounter { [call] in call.ring() }
        let queue = try Virtqueue(
            configuration, memory: memory.deviceMemory(), notifier: notifier)
        let device = TestDevice(batching: batching)
        // A buffer may have been offered before the queue asked to be told.
        device.run(queue)
        while device.bufferCount < total {
            guard kick.wait() else {
                return deviceFailure.withLock { $0 = "no kick after \(device.bufferCount)" }
            }
            device.run(queue)
            if let breakage = device.breakage { throw breakage }
        }
    }

    private func runDriver() throws -> String? {
        // One word each way for each buffer that fits in the ring.
        var chains: [Chain] = []
        for index in 0..<driver.size {
            chains.append(
                Chain(
                    readable: [memory.segment(byteCount: 8)],
                    writable: [memory.segment(byteCount: 8)],
                    placement: driver.size == 1 || index % 3 == 0 ? .indirect : .direct))
        }
        var free = Array(chains.indices)
        var numbers = [UInt64](repeating: 0, count: chains.count)
        var added = 0
        var reaped = 0
        while reaped < total {
            var isIdle = true
            driver.suppressSignals()
            while added < total, let index = free.last {
                numbers[index] = UInt64(added) &* 0x9E37_79B9_7F4A_7C15 | 1
                memory.store(numbers[index], at: chains[index].readable[0].address)
                guard driver.add(chains[index], tag: index) != nil else { break }
                free.removeLast()
                added += 1
                isIdle = false
                if added % 7 == 0 { driver.kick() }
            }
            driver.kick()
            while let buffer = try driver.reap() {
                let echo = memory.load(UInt64.self, at: buffer.chain.writable[0].address)
                guard buffer.writtenLength == 8, echo == numbers[buffer.tag] else {
                    return "buffer \(reaped) came back as \(echo), \(buffer.writtenLength) bytes"
                }
                memory.store(UInt64(0), at: buffer.chain.writable[0].address)
                free.append(buffer.tag)
                reaped += 1
                isIdle = false
            }
            if isIdle, !driver.requestSignals(after: 1), !call.wait() {
                return "no signal after \(reaped) of \(added)"
            }
        }
        return nil
    }
}
