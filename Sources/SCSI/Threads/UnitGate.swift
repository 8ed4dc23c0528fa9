// SPDX-License-Identifier: Apache-2.0

// A gate between a disk and other threads that read and write its medium.
//
// The disk lives on one thread, its owner. Other threads may do what needs nothing of the disk but
// its medium: plain reads and writes, while nothing forbids them. Each thread has a lane of the
// gate, in which it counts what it has under way:
//
//   a thread                                  the owner
//   counts up in its lane                     closes the gate
//   looks at the gate; closed: counts down,   looks at the lanes; all zero: nothing is under way,
//   and leaves the command to the owner       and nothing begins any more
//   ... reads or writes ...                   else it asks to be told, and looks once more
//   counts down; zero, and the owner has
//   asked: tells it
//
// Every step is sequentially consistent, so there is one order of all of them: of a thread that
// counts up and then finds the gate open, and an owner that closes it and then looks at the lanes, the
// owner sees the count. The same holds between the count down and the look whether the owner has asked.
// What the owner changes before it opens the gate is seen by whoever finds it open.

public import BlockStorage
import Synchronization

/// Says whether other threads than the disk's may read and write its medium by themselves.
public final class UnitGate: Sendable {
    /// What an open gate lets through.
    struct Passage: OptionSet {
        let rawValue: UInt
        static let reads = Passage(rawValue: 1)
        static let writes = Passage(rawValue: 2)
        /// Nothing; the owner waits for what is under way.
        static let awaited = Passage(rawValue: 4)
    }

    /// One lane a thread.
    public let lanes: [GateLane]
    private let passage = Atomic<UInt>(0)
    private let blockCountOfOpening = Atomic<UInt64>(0)
    private let whenQuiet: @Sendable () -> Void

    /// A closed gate.
    ///
    /// - Parameters:
    ///   - laneCount: threads that may pass.
    ///   - whenQuiet: is called by a thread when it has nothing under way any more and the owner waits
    ///     for that; it has the owner look again.
    public init(laneCount: Int, whenQuiet: @escaping @Sendable () -> Void) {
        lanes = (0..<laneCount).map { _ in GateLane() }
        self.whenQuiet = whenQuiet
    }

    // MARK: For the owner

    /// Opens the gate for a medium of so many blocks.
    func open(_ passage: Passage, blockCount: UInt64) {
        blockCountOfOpening.store(blockCount, ordering: .relaxed)
        self.passage.store(passage.rawValue, ordering: .sequentiallyConsistent)
    }

    /// Closes the gate: what is under way goes on, nothing begins.
    func close() {
        passage.store(0, ordering: .sequentiallyConsistent)
    }

    /// Has the last thread that is done say so; the gate is closed.
    func awaitQuiet() {
        passage.store(Passage.awaited.rawValue, ordering: .sequentiallyConsistent)
    }

    /// What every thread has under way.
    public var underWayCount: Int {
        lanes.reduce(0) { $0 + $1.underWayCount }
    }

    /// What every thread has done.
    public var figures: StoreFigures {
        lanes.reduce(into: StoreFigures()) { $0.add($1.figures) }
    }

    // MARK: For the threads

    /// Begins something in a lane, if the gate lets it through.
    ///
    /// - Returns: blocks of the medium; nil when the gate is closed, and nothing has begun.
    @inline(__always)
    func enter(_ lane: GateLane, _ wanted: Passage) -> UInt64? {
        // Not to bother an owner that waits: what counts is the look after counting.
        if passage.load(ordering: .relaxed) & wanted.rawValue == 0 { return nil }
        lane.countUp()
        let found = passage.load(ordering: .sequentiallyConsistent)
        if found & wanted.rawValue != 0 { return blockCountOfOpening.load(ordering: .relaxed) }
        leave(lane)
        return nil
    }

    /// Ends something in a lane.
    @inline(__always)
    func leave(_ lane: GateLane) {
        if lane.countDown() > 0 { return }
        if passage.load(ordering: .sequentiallyConsistent) & Passage.awaited.rawValue != 0 {
            whenQuiet()
        }
    }
}

/// Says that something was begun behind a gate.
public struct GatePass: Sendable {
    let gate: UnitGate
    let lane: GateLane

    /// Ends it; once, on any thread.
    public func leave() {
        gate.leave(lane)
    }
}

/// What one thread has under way behind a gate, and what it has done there.
///
/// The counts of different threads lie in different objects, so that no thread waits for a cache
/// line of another one.
public final class GateLane: Sendable {
    private let begun = Atomic<Int>(0)
    private let readCount = Atomic<UInt64>(0)
    private let readByteCount = Atomic<UInt64>(0)
    private let writeCount = Atomic<UInt64>(0)
    private let writtenByteCount = Atomic<UInt64>(0)
    private let latency = Mutex(LatencyHistogram())

    @inline(__always)
    func countUp() {
        begun.wrappingAdd(1, ordering: .sequentiallyConsistent)
    }

    /// Returns what is left.
    @inline(__always)
    func countDown() -> Int {
        begun.wrappingSubtract(1, ordering: .sequentiallyConsistent).newValue
    }

    var underWayCount: Int { begun.load(ordering: .sequentiallyConsistent) }

    /// Counts a transfer that was done; on the lane's thread only.
    @inline(__always)
    func count(byteCount: Int, isRead: Bool) {
        if isRead {
            Self.add(1, to: readCount)
            Self.add(UInt64(truncatingIfNeeded: byteCount), to: readByteCount)
        } else {
            Self.add(1, to: writeCount)
            Self.add(UInt64(truncatingIfNeeded: byteCount), to: writtenByteCount)
        }
    }

    /// Nobody else writes, so that nothing is lost between the two halves.
    @inline(__always)
    private static func add(_ amount: UInt64, to count: borrowing Atomic<UInt64>) {
        count.store(count.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }

    /// Notes how long one of several transfers took.
    func add(microseconds: UInt64) {
        latency.withLock { $0.add(microseconds: microseconds) }
    }

    /// What was done so far.
    var figures: StoreFigures {
        var figures = StoreFigures()
        figures.readCount = readCount.load(ordering: .relaxed)
        figures.readByteCount = readByteCount.load(ordering: .relaxed)
        figures.writeCount = writeCount.load(ordering: .relaxed)
        figures.writtenByteCount = writtenByteCount.load(ordering: .relaxed)
        figures.latency = latency.withLock { $0 }
        return figures
    }
}
