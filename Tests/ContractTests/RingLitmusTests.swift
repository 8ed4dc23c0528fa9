// SPDX-License-Identifier: Apache-2.0

import Driver
import Glibc
import LinuxIO
import Synchronization
import Testing
import Virtio

/// Each side publishes something and then looks whether the other one wants to know, at the same
/// moment.
///
/// Without a full fence in between, on x86-64 as on arm64, both may look too early, and then both
/// go to sleep.
@Suite("Publishing and asking at the same moment", .serialized)
struct RingLitmusTests {
    @Test(
        "leaves a kick, or a buffer that is seen", arguments: RingFormat.allCases, [true, false])
    func kick(format: RingFormat, eventIndex: Bool) throws {
        let ring = try RingContext(format, RingOptions(size: 4, eventIndex: eventIndex))
        let chain = Chain(readable: [ring.memory.segment([1])])
        let driver = ring.driver
        let missed = try Litmus().run {
            _ = driver.add(chain, tag: 0)
        } other: {
            driver.publish()
        } here: {
            ring.queue.requestNotifications()
        } after: {
            ring.queue.suppressNotifications()
            try ring.takeAll()
            ring.finish()
            _ = try driver.reapAll()
        }
        #expect(missed == 0)
    }

    @Test(
        "leaves a signal, or a used buffer that is seen", arguments: RingFormat.allCases,
        [true, false])
    func signal(format: RingFormat, eventIndex: Bool) throws {
        let ring = try RingContext(format, RingOptions(size: 4, eventIndex: eventIndex))
        let chain = Chain(readable: [ring.memory.segment([1])])
        let driver = ring.driver
        let missed = try Litmus().run {
            driver.suppressSignals()
            driver.offer(chain)
            ring.put(try ring.takeAll())
            ring.notifier.count = 0
        } other: {
            driver.requestSignals(after: 1)
        } here: {
            ring.queue.flush()
            ring.queue.signal()
            return ring.notifier.count > 0
        } after: {
            _ = try driver.reapAll()
        }
        #expect(missed == 0)
    }
}

/// Two threads that do one thing each at the same moment, over and over.
private final class Litmus: Sendable {
    private let rounds: Int
    /// Counts up; the other thread acts in each round when it gets there.
    private let started = Atomic<Int>(0)
    private let finished = Atomic<Int>(0)
    private let otherSaw = Atomic<Bool>(false)

    init(rounds: Int = 10_000) {
        self.rounds = rounds
    }

    /// Runs the rounds, all but `other` in the calling thread.
    ///
    /// - Returns: in how many of them neither side saw that the other acts.
    func run(
        before: () throws -> Void, other: @escaping @Sendable () -> Bool, here: () -> Bool,
        after: () throws -> Void
    ) throws -> Int {
        let thread = try startThread(name: "litmus") { self.follow(other) }
        defer {
            started.store(.max, ordering: .releasing)
            joinThread(thread)
        }
        var missed = 0
        // Where other programs want the processors too, fewer rounds have to do.
        let end = ContinuousClock.now + .seconds(5)
        for round in 1...rounds where ContinuousClock.now < end {
            try before()
            started.store(round, ordering: .releasing)
            // The other side needs a moment to notice; which, differs from round to round.
            for _ in 0..<round % 64 { spinPause() }
            let sawHere = here()
            wait { finished.load(ordering: .acquiring) >= round }
            if !sawHere && !otherSaw.load(ordering: .relaxed) { missed += 1 }
            try after()
        }
        return missed
    }

    private func follow(_ other: () -> Bool) {
        for round in 1...rounds {
            wait { started.load(ordering: .acquiring) >= round }
            if started.load(ordering: .acquiring) == .max { return }
            otherSaw.store(other(), ordering: .relaxed)
            finished.store(round, ordering: .releasing)
        }
    }

    /// Spins, but not for ever: there may be one processor for both.
    private func wait(until condition: () -> Bool) {
        var spins = 0
        while !condition() {
            spins += 1
            if spins % 2000 == 0 { sched_yield() }
        }
    }

    private func spinPause() {
        _ = started.load(ordering: .relaxed)
    }
}
