// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Glibc
import LinuxIO
import Synchronization
import Testing

@testable import SCSI

@Suite("A gate between threads and a medium", .serialized)
struct GateTests {
    /// What the threads of a test share.
    private final class Scene: Sendable {
        let gate: UnitGate
        private let told = Told()
        let isExclusive = Atomic(false)
        let violationCount = Atomic(0)
        let passedCount = Atomic(0)
        let isOver = Atomic(false)

        init(laneCount: Int) {
            gate = UnitGate(laneCount: laneCount) { [told] in
                told.count.wrappingAdd(1, ordering: .relaxed)
            }
        }

        var toldCount: Int { told.count.load(ordering: .relaxed) }

        /// Passes again and again, and looks whether the owner believes to be alone.
        func pass(lane number: Int) {
            let lane = gate.lanes[number]
            while !isOver.load(ordering: .relaxed) {
                guard gate.enter(lane, .reads) != nil else { continue }
                if isExclusive.load(ordering: .relaxed) {
                    violationCount.wrappingAdd(1, ordering: .relaxed)
                }
                passedCount.wrappingAdd(1, ordering: .relaxed)
                gate.leave(lane)
            }
        }
    }

    private final class Told: Sendable {
        let count = Atomic(0)
    }

    @Test("lets nothing pass while its owner is alone", arguments: [1, 3])
    func excludes(laneCount: Int) throws {
        let scene = Scene(laneCount: laneCount)
        let threads = try (0..<laneCount).map { number in
            try startThread(name: "lane") { scene.pass(lane: number) }
        }
        for round in 0..<500 {
            scene.gate.open(.reads, blockCount: UInt64(round))
            let before = scene.passedCount.load(ordering: .relaxed)
            while scene.passedCount.load(ordering: .relaxed) == before { sched_yield() }
            scene.gate.close()
            let told = scene.toldCount
            if scene.gate.underWayCount > 0 {
                scene.gate.awaitQuiet()
                // Whoever was under way at the second look has to tell.
                while scene.gate.underWayCount > 0 && scene.toldCount == told { sched_yield() }
                while scene.gate.underWayCount > 0 { sched_yield() }
                scene.gate.close()
            }
            scene.isExclusive.store(true, ordering: .relaxed)
            // Long enough for one that has begun all the same to be seen.
            for _ in 0..<4 { sched_yield() }
            scene.isExclusive.store(false, ordering: .relaxed)
        }
        scene.isOver.store(true, ordering: .relaxed)
        for thread in threads { joinThread(thread) }
        #expect(scene.violationCount.load(ordering: .relaxed) == 0)
        #expect(scene.passedCount.load(ordering: .relaxed) >= 500)
        #expect(scene.gate.underWayCount == 0)
    }

    @Test("tells an owner that waits when the last one leaves, and nobody else")
    func tells() {
        let scene = Scene(laneCount: 2)
        let gate = scene.gate
        gate.open([.reads, .writes], blockCount: 7)
        #expect(gate.enter(gate.lanes[0], .writes) == 7)
        #expect(gate.enter(gate.lanes[1], .reads) == 7)
        gate.close()
        #expect(gate.enter(gate.lanes[0], .reads) == nil)
        gate.leave(gate.lanes[1])
        #expect(scene.toldCount == 0)
        gate.awaitQuiet()
        #expect(gate.underWayCount == 1)
        gate.leave(gate.lanes[0])
        #expect(scene.toldCount == 1 && gate.underWayCount == 0)
    }

    @Test("lets reads pass only, where writes are the owner's")
    func passages() {
        let gate = UnitGate(laneCount: 1) {}
        gate.open(.reads, blockCount: 1)
        #expect(gate.enter(gate.lanes[0], .writes) == nil)
        #expect(gate.enter(gate.lanes[0], .reads) == 1)
        #expect(gate.underWayCount == 1)
    }

    @Test("sums up what was done in every lane")
    func figures() {
        let gate = UnitGate(laneCount: 2) {}
        gate.lanes[0].count(byteCount: 512, isRead: true)
        gate.lanes[1].count(byteCount: 1024, isRead: true)
        gate.lanes[1].count(byteCount: 4096, isRead: false)
        gate.lanes[1].add(microseconds: 60)
        #expect(gate.figures.readCount == 2 && gate.figures.readByteCount == 1536)
        #expect(gate.figures.writeCount == 1 && gate.figures.writtenByteCount == 4096)
        #expect(gate.figures.latency.count == 1 && gate.figures.latency.total == 60)
    }
}
