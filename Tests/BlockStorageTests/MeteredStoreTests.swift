// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Kernel
import LinuxIO
import Stores
import Testing

@Suite("A metered store")
struct MeteredStoreTests {
    /// A store that ends requests when it is told to, behind a meter whose clock is turned by hand.
    private final class Bench: BlockRequestOwner {
        let clock = ManualClock()
        let loop: EventLoop
        let inner = MemoryStore(geometry: BlockGeometry(blockSize: 512, blockCount: 1 << 20))
        let meter: MeteredStore
        private(set) var ended: [UInt64] = []

        init() throws {
            loop = try EventLoop(clock: clock)
            inner.isHolding = true
            meter = MeteredStore(inner, loop: loop)
        }

        func blockRequestEnded(token: UInt64, outcome: BlockOutcome) {
            ended.append(token)
        }

        /// The store behind the meter needs no pieces.
        func submit(
            _ operation: BlockRequest.Operation, _ tokens: Range<UInt64>, byteCount: Int = 512
        ) {
            for token in tokens {
                meter.submit(
                    BlockRequest(operation, offset: 0, byteCount: byteCount), owner: self,
                    token: token)
            }
        }

        /// Lets time pass, and the loop see it.
        func pass(_ duration: Duration) throws {
            clock.advance(by: duration)
            try loop.turn(waitingAtMost: .zero)
        }
    }

    @Test("passes everything on at once when it has no limits, and counts it")
    func counts() throws {
        let bench = try Bench()
        bench.submit(.discard, 0..<3)
        bench.submit(.flush, 3..<5)
        bench.submit(.locate, 5..<6)
        #expect(bench.inner.pendingCount == 6)
        #expect(bench.meter.figures.discardCount == 3)
        #expect(bench.meter.figures.flushCount == 2)
        #expect(bench.meter.figures.delayedCount == 0)
        bench.inner.endAll()
        #expect(bench.ended == [0, 1, 2, 3, 4, 5])
    }

    @Test("lets a burst through, then as many operations as the rate allows, in order")
    func rate() throws {
        let bench = try Bench()
        bench.meter.limits = StoreLimits(operationsPerSecond: 10, operationBurst: 5)
        bench.submit(.discard, 0..<12)
        #expect(bench.inner.pendingCount == 5)
        #expect(bench.meter.waitingCount == 7)
        #expect(bench.meter.figures.delayedCount == 7)
        try bench.pass(.milliseconds(99))
        #expect(bench.inner.pendingCount == 5)
        try bench.pass(.milliseconds(2))
        #expect(bench.inner.pendingCount == 6)
        for _ in 0..<6 { try bench.pass(.milliseconds(110)) }
        #expect(bench.inner.pendingCount == 12)
        #expect(bench.meter.waitingCount == 0)
        bench.inner.endAll()
        #expect(bench.ended == Array(0..<12))
    }

    @Test("lets as many bytes through as the rate allows, and a larger request when it is full")
    func byteRate() throws {
        let bench = try Bench()
        bench.meter.limits = StoreLimits(bytesPerSecond: 10_240, byteBurst: 1024)
        bench.submit(.write(isDurable: false), 0..<1, byteCount: 4096)
        bench.submit(.read, 1..<2, byteCount: 512)
        bench.submit(.discard, 2..<3, byteCount: 1 << 20)
        #expect(bench.inner.pendingCount == 1)
        // A debt of 3072 bytes is paid in 300 ms, and 512 more are there 50 ms later.
        try bench.pass(.milliseconds(349))
        #expect(bench.inner.pendingCount == 1)
        try bench.pass(.milliseconds(2))
        #expect(bench.inner.pendingCount == 3)
        #expect(bench.meter.figures.writtenByteCount == 4096)
        #expect(bench.meter.figures.readByteCount == 512)
    }

    @Test("times every sixteenth read or write and hands its end to its owner")
    func latency() throws {
        let bench = try Bench()
        bench.submit(.read, 0..<16)
        try bench.pass(.microseconds(300))
        bench.inner.endAll()
        #expect(bench.ended == Array(0..<16))
        #expect(bench.meter.figures.latency.count == 1)
        #expect(bench.meter.figures.latency.total == 300)
        #expect(bench.meter.figures.latency.counts[3] == 1)
    }

    @Test("never holds back a flush")
    func flush() throws {
        let bench = try Bench()
        bench.meter.limits = StoreLimits(operationsPerSecond: 1, operationBurst: 1)
        bench.submit(.discard, 0..<3)
        bench.submit(.flush, 3..<4)
        #expect(bench.inner.log.map(\.operation) == [.discard, .flush])
    }

    @Test("passes on what waits when the limits go")
    func unlimited() throws {
        let bench = try Bench()
        bench.meter.limits = StoreLimits(operationsPerSecond: 1, operationBurst: 1)
        bench.submit(.discard, 0..<100)
        #expect(bench.meter.waitingCount == 99)
        bench.meter.limits = StoreLimits()
        #expect(bench.inner.pendingCount == 100)
    }

    @Test("has what waits go on by higher limits at once, not when the old ones would have let it")
    func raised() throws {
        let bench = try Bench()
        bench.meter.limits = StoreLimits(bytesPerSecond: 1, byteBurst: 1)
        bench.submit(.read, 0..<4, byteCount: 4096)
        #expect(bench.inner.pendingCount == 1)
        bench.meter.limits = StoreLimits(bytesPerSecond: 40_960, byteBurst: 4096)
        #expect(bench.inner.pendingCount == 2)
        try bench.pass(.milliseconds(101))
        #expect(bench.inner.pendingCount == 3)
        try bench.pass(.milliseconds(101))
        #expect(bench.inner.pendingCount == 4)
    }

    @Test("lets everything go for a queue that stops, and keeps its limits")
    func release() throws {
        let bench = try Bench()
        bench.meter.limits = StoreLimits(operationsPerSecond: 1, operationBurst: 1)
        bench.submit(.discard, 0..<10)
        bench.meter.releaseWaiting()
        #expect(bench.inner.pendingCount == 10)
        bench.submit(.discard, 10..<12)
        #expect(bench.meter.waitingCount == 2)
    }

    @Test("does not take a pause for more than one burst")
    func burst() throws {
        let bench = try Bench()
        bench.meter.limits = StoreLimits(operationsPerSecond: 100, operationBurst: 4)
        try bench.pass(.seconds(60))
        bench.submit(.discard, 0..<10)
        #expect(bench.inner.pendingCount == 4)
    }
}

@Suite("A histogram of latencies")
struct LatencyHistogramTests {
    @Test("puts a time into the first bucket whose bound it does not pass")
    func buckets() {
        var histogram = LatencyHistogram()
        for microseconds: UInt64 in [0, 50, 51, 1000, 1_000_000, 1_000_001] {
            histogram.add(microseconds: microseconds)
        }
        #expect(histogram.counts == [2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1])
        #expect(histogram.count == 6)
        #expect(histogram.total == 2_001_102)
    }
}
