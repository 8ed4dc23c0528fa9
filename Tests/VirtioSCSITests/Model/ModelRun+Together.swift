// SPDX-License-Identifier: Apache-2.0

import Driver
import Stores

/// Commands that are under way at the same time, and whose answers are the same all the same.
///
/// A command is SIMPLE when it touches blocks that no other SIMPLE one does since the last ORDERED one,
/// and changes nothing else; every other one is ORDERED. So each finds the disk as if the ones before it had
/// ended, whatever order the store ends its requests in, and the model may execute them one by one.
extension ModelRun {
    /// VIRTIO_SCSI_S_SIMPLE and VIRTIO_SCSI_S_ORDERED.
    private static let simple: UInt8 = 0
    private static let ordered: UInt8 = 1
    private static let batchLimit = 24

    /// A command that was offered, and what it should come to.
    private struct Offered {
        let command: ModelDisk.Command
        let attribute: UInt8
        let expected: ModelDisk.Answer
    }

    /// Sends batches of commands, and now and then a reset between them, and compares every answer.
    ///
    /// All of a batch through one queue, since only there have they an order.
    func sendTogether(commandCount: Int) throws {
        guest.hold(true)
        var sent = 0
        while sent < commandCount {
            if generator.random.oneIn(50) { try reset() }
            let batch = makeBatch()
            queue = guest.rings.indices.last ?? 2
            for (tag, offered) in batch.enumerated() {
                offer(offered.command, attribute: offered.attribute, tag: tag, queue: queue)
            }
            let answers = try takeAnswers(to: batch)
            for (tag, offered) in batch.enumerated() where answers[tag] != offered.expected {
                let answer = answers[tag].map { "\($0)" } ?? "nothing"
                throw Difference(
                    description: """
                        command \(sent + tag), seed \(generator.random.seed), number \(tag) of \
                        \(batch.map { "\($0.attribute == Self.ordered ? "ORDERED" : "SIMPLE") \($0.command.cdb)" })
                        nexus \(offered.command.nexus)
                        expected \(offered.expected)
                        got      \(answer)
                        """)
            }
            sent += batch.count
        }
        try compareBlocks()
    }

    private func makeBatch() -> [Offered] {
        var batch: [Offered] = []
        var touched: [Range<UInt64>] = []
        let count = 1 + generator.random.below(Self.batchLimit)
        while batch.count < count {
            let command = generator.next(model)
            let range = Self.blocks(of: command)
            var attribute = Self.ordered
            if let range, !touched.contains(where: { $0.overlaps(range) }),
                !generator.random.oneIn(8)
            {
                attribute = Self.simple
                touched.append(range)
            } else {
                touched = []
            }
            batch.append(
                Offered(
                    command: command, attribute: attribute, expected: model.execute(command)))
            // PREEMPT AND ABORT would end those behind it.
            if command.cdb[0] == 0x5F && command.cdb[1] == 0x05 { break }
        }
        return batch
    }

    /// The blocks of a command that touches these only; nil for every other one.
    private static func blocks(of command: ModelDisk.Command) -> Range<UInt64>? {
        let transfers: [UInt8] = [
            0x08, 0x28, 0xA8, 0x88, 0x0A, 0x2A, 0xAA, 0x8A, 0x2F, 0xAF, 0x8F, 0x2E, 0xAE, 0x8E,
            0x8B,
            0x89, 0x41, 0x93,
        ]
        guard transfers.contains(command.cdb[0]) else { return nil }
        let (first, count) = ModelDisk.extent(command.cdb)
        guard first <= UInt64(ModelDisk.blockCount) else { return nil }
        return first..<first + UInt64(count)
    }

    /// Lets the store end its requests in any order until every command has an answer.
    private func takeAnswers(to batch: [Offered]) throws -> [Int: ModelDisk.Answer] {
        var answers: [Int: ModelDisk.Answer] = [:]
        var idleTurns = 0
        while answers.count < batch.count {
            try guest.turn()
            for response in try guest.reap(queue: queue) {
                guard batch.indices.contains(response.tag), answers[response.tag] == nil else {
                    throw Difference(description: "a command was answered twice")
                }
                answers[response.tag] = try Self.answer(
                    response, to: batch[response.tag].command)
                idleTurns = 0
            }
            let pending = guest.pendingCount
            if pending > 0 { guest.endRequest(at: generator.random.below(pending)) }
            idleTurns += 1
            guard idleTurns < 10_000 else {
                throw Difference(description: "no answer to \(batch.count - answers.count)")
            }
        }
        return answers
    }
}
