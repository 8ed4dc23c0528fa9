// SPDX-License-Identifier: Apache-2.0

import CGuest
import CReference
import Glibc
import LinuxIO
import Virtio

/// Runs every case over both sides.
///
/// Without an argument it prints, a line a case: name, nanoseconds per buffer of ours, of the
/// reference, the median of their ratio, bytes of heap that ours has grown by. With `--count` it
/// runs fewer buffers and reports to callgrind.
@main
enum RingBenchmark {
    static func main() throws {
        if CommandLine.arguments.contains("--count") {
            for one in Case.all { try count(one) }
        } else {
            for one in Case.all { try time(one) }
        }
    }

    /// Both sides, each with a guest of its own.
    private static func withSides(
        _ one: Case,
        _ body: (
            _ ours: (Guest, () -> Int), _ theirs: (Guest, () -> Int)
        ) -> Void
    ) throws {
        let ourGuest = try Guest(one)
        let theirGuest = try Guest(one)
        let side = UnsafeMutablePointer<SwiftSide>.allocate(capacity: 1)
        side.initialize(to: try SwiftSide(one, ourGuest, CountingNotifier()))
        let reference = ReferenceSide(one, theirGuest)
        body((ourGuest, { swiftProcess(side) }), (theirGuest, { reference.process() }))
        side.deinitialize(count: 1)
        side.deallocate()
    }

    /// Nanoseconds for `rounds` batches.
    private static func run(_ side: (Guest, () -> Int), _ one: Case, rounds: Int) -> UInt64 {
        var sum: UInt64 = 0
        for _ in 0..<rounds {
            guest_offer(side.0.guest, one.batch)
            let start = guest_now()
            let done = side.1()
            sum += guest_now() - start
            guard done == Int(one.batch), guest_reap(side.0.guest, one.batch) else {
                print("\(one.name): the buffers did not come back")
                exit(1)
            }
        }
        return sum
    }

    private static func count(_ one: Case) throws {
        try withSides(one) { ours, theirs in
            let rounds = 2048 / Int(one.batch)
            for (name, side) in [("swift", ours), ("c", theirs)] {
                _ = run(side, one, rounds: 256)
                guest_zero_counts()
                _ = run(side, one, rounds: rounds)
                guest_report_counts("\(one.name)/\(name)/\(rounds * Int(one.batch))")
            }
        }
    }

    private static func time(_ one: Case) throws {
        let overhead = clockOverhead()
        try withSides(one) { ours, theirs in
            let rounds = 16384 / Int(one.batch)
            _ = run(ours, one, rounds: rounds)
            _ = run(theirs, one, rounds: rounds)
            var best = (ours: Double.infinity, theirs: Double.infinity)
            var ratios = [Double](repeating: 0, count: 41)
            let heap = guest_heap_in_use()
            for index in ratios.indices {
                let scale = Double(rounds * Int(one.batch))
                let fixed = overhead * Double(rounds)
                let our = (Double(run(ours, one, rounds: rounds)) - fixed) / scale
                let their = (Double(run(theirs, one, rounds: rounds)) - fixed) / scale
                best = (min(best.ours, our), min(best.theirs, their))
                ratios[index] = our / their
            }
            let growth = Int(guest_heap_in_use()) - Int(heap)
            ratios.sort()
            print(one.name, best.ours, best.theirs, ratios[20], growth)
        }
    }

    /// What reading the clock twice takes, in nanoseconds.
    private static func clockOverhead() -> Double {
        var best = UInt64.max
        for _ in 0..<1000 {
            let start = guest_now()
            best = min(best, guest_now() - start)
        }
        return Double(best)
    }
}
