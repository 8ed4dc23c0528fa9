// SPDX-License-Identifier: Apache-2.0

import LinuxIO

@testable import ISCSIBackstore

/// Keeps commands under way: each writes blocks of its own, reads them back and compares.
final class VerifiedLoad {
    private enum Step {
        case write, read
    }

    private struct Worker {
        let index: Int
        var step = Step.write
        var seed: UInt64 = 0
        var token: UInt64 = 0
        var buffer: TestBuffer
    }

    private static let blockCount = 16
    private let context: SessionContext
    private var workers: [Worker] = []
    private var isEnding = false
    /// What must not be done twice goes on beside.
    let once: OnceLoad
    private(set) var completedCount = 0
    private var failuresHere: [String] = []

    var failures: [String] { failuresHere + once.failures }

    init(_ context: SessionContext, depth: Int) {
        self.context = context
        once = OnceLoad(context)
        for index in 0..<depth {
            workers.append(Worker(index: index, buffer: TestBuffer(byteCount: 512)))
            begin(index)
        }
    }

    /// Turns the loop and keeps the load up.
    func run(for duration: Duration) throws {
        try context.turn(atMost: duration) {
            advance()
            return false
        }
    }

    /// Turns the loop and keeps the load up until so many more commands have ended.
    func run(commands count: Int) throws {
        let goal = completedCount + count
        try run { completedCount >= goal }
    }

    /// Turns the loop and keeps the load up until the condition holds.
    func run(until condition: () -> Bool) throws {
        let holds = try context.turn {
            advance()
            return condition()
        }
        if !holds { failuresHere.append("waited in vain") }
    }

    /// Lets what is under way end.
    func finish() throws {
        isEnding = true
        once.end()
        try run { once.isIdle && workers.allSatisfy { $0.token == 0 } }
    }

    private func advance() {
        once.advance()
        for index in workers.indices {
            let worker = workers[index]
            guard worker.token != 0, let outcome = context.outcomes[worker.token] else { continue }
            workers[index].token = 0
            completedCount += 1
            if isUnitAttention(worker.token, outcome) {
                begin(index)
                continue
            }
            check(worker, outcome)
            workers[index].step = worker.step == .write ? .read : .write
            if worker.step == .read { workers[index].seed += 1 }
            if !isEnding || worker.step == .write { begin(index) }
        }
    }

    /// A target that was started anew says so, as unit attentions; the guest tries again.
    private func isUnitAttention(_ token: UInt64, _ outcome: ISCSIOutcome) -> Bool {
        guard case .answered(status: 0x02, _) = outcome, let sense = context.sense[token] else {
            return false
        }
        return SenseData(sense)?.key == SenseData.unitAttention
    }

    private func check(_ worker: Worker, _ outcome: ISCSIOutcome) {
        guard outcome == .answered(status: 0x00, .none) else {
            return failuresHere.append("\(worker.index) \(worker.step): \(outcome)")
        }
        if worker.step == .read, worker.buffer.bytes != pattern(worker) {
            failuresHere.append("\(worker.index): data differ")
        }
    }

    private func pattern(_ worker: Worker) -> [UInt8] {
        TestBuffer.pattern(
            block: UInt64(worker.index * Self.blockCount), count: Self.blockCount,
            seed: worker.seed)
    }

    private func begin(_ index: Int) {
        let block = UInt64(index * Self.blockCount)
        let count = UInt32(Self.blockCount)
        switch workers[index].step {
        case .write:
            workers[index].buffer = TestBuffer(pattern(workers[index]), pieceByteCount: 1024)
            workers[index].token = context.submit(
                BlockCDB.write(block, count), direction: .write, byteCount: 512 * Int(count),
                pieces: workers[index].buffer.pieces)
        case .read:
            workers[index].buffer = TestBuffer(
                byteCount: 512 * Int(count), pieceByteCount: 4096)
            workers[index].token = context.submit(
                BlockCDB.read(block, count), direction: .read, byteCount: 512 * Int(count),
                pieces: workers[index].buffer.pieces)
        }
    }
}
