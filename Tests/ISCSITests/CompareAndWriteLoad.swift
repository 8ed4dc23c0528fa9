// SPDX-License-Identifier: Apache-2.0

import LinuxIO

@testable import ISCSIBackstore

/// A command that must not be done twice, again and again: COMPARE AND WRITE counts in a block.
///
/// Done a second time it would not find what it expects there (SBC-3, MISCOMPARE).
final class CompareAndWriteLoad {
    private enum Step {
        /// READ, which tells whether a command without an answer was done.
        case look
        /// COMPARE AND WRITE: the count, and the next.
        case count
    }

    /// SAM-5 status codes.
    private static let (good, checkCondition): (UInt8, UInt8) = (0x00, 0x02)
    /// SPC-4, sense key.
    private static let unitAttention: UInt8 = 0x06
    private static let block: UInt64 = 100

    private var command: LoneCommand
    private var step = Step.look
    /// What the block holds, if the last command was not done.
    private var count: UInt64 = 0
    private var isEnding = false

    /// Commands that were answered.
    private(set) var changeCount = 0
    /// Commands without an answer that turned out to have been done, and not to have been.
    private(set) var (lostAnswerCount, lostCommandCount) = (0, 0)
    private(set) var failures: [String] = []

    init(_ context: SessionContext) {
        command = LoneCommand(context)
        begin()
    }

    var isIdle: Bool { command.isIdle }

    /// Begins nothing more.
    func end() { isEnding = true }

    /// Looks whether the command has ended, and goes on.
    func advance() {
        guard let (outcome, sense) = command.takeOutcome() else { return }
        step = next(outcome, sense)
        if !isEnding { begin() }
    }

    private func next(_ outcome: ISCSIOutcome, _ sense: [UInt8]) -> Step {
        switch outcome {
        case .answered(status: Self.good, _) where step == .count:
            count += 1
            changeCount += 1
            return .count
        case .answered(status: Self.good, _):
            return looked()
        case .answered(status: Self.checkCondition, _)
        where sense.count > 2 && sense[2] & 0xF == Self.unitAttention:
            return .look
        case .nexusLost where step == .count:
            return .look
        default:
            failures.append("\(step) at \(count): \(outcome) \(sense)")
            return .look
        }
    }

    private func looked() -> Step {
        let found = command.buffer.bytes[0..<8].reduce(0) { $0 << 8 | UInt64($1) }
        switch found {
        case count: lostCommandCount += 1
        case count + 1: lostAnswerCount += 1
        default: failures.append("\(found) after \(count)")
        }
        count = found
        return .count
    }

    private func begin() {
        switch step {
        case .look:
            command.submit(BlockCDB.read(Self.block, 1), .read, TestBuffer(byteCount: 512))
        case .count:
            // COMPARE AND WRITE of one block.
            command.submit(
                (0x89 << 56 | Self.block >> 16, Self.block << 48 | 1 << 16), .write,
                TestBuffer(Self.content(count) + Self.content(count + 1)))
        }
    }

    /// A block that holds a count, the most significant byte first, and zeroes.
    private static func content(_ count: UInt64) -> [UInt8] {
        (0..<8).reversed().map { UInt8(truncatingIfNeeded: count >> (8 * UInt64($0))) }
            + [UInt8](repeating: 0, count: 504)
    }
}
