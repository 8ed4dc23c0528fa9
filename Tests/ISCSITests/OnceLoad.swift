// SPDX-License-Identifier: Apache-2.0

import LinuxIO

@testable import ISCSIBackstore

/// A command that must not be done twice, again and again: PERSISTENT RESERVE OUT changes a key, and
/// the target counts how often that was done (SPC-4, PRGENERATION).
final class OnceLoad {
    private enum Step {
        /// READ KEYS, which every new nexus begins with.
        case look
        /// REGISTER AND IGNORE EXISTING KEY.
        case register
        /// REGISTER: the old key and the next.
        case change
    }

    /// SAM-5 status codes.
    private static let (good, checkCondition): (UInt8, UInt8) = (0x00, 0x02)
    private static let reservationConflict: UInt8 = 0x18
    /// SPC-4, sense key.
    private static let unitAttention: UInt8 = 0x06

    private var command: LoneCommand
    private var step = Step.look
    /// Changes that the target has counted.
    private var generation: UInt64 = 0
    /// Logins at the time of the last look.
    private var loginCount = 0
    private var isEnding = false

    /// Changes that were answered.
    private(set) var changeCount = 0
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
        case .answered(status: Self.good, _):
            return succeeded()
        case .answered(status: Self.checkCondition, _) where sense[2] & 0xF == Self.unitAttention:
            return .look
        // A nexus that is new to the target has no key.
        case .answered(status: Self.reservationConflict, _)
        where loginCount != command.context.upCount:
            return .look
        case .nexusLost where step != .look:
            return .look
        default:
            failures.append("\(step) at \(generation): \(outcome) \(sense)")
            return .look
        }
    }

    private func succeeded() -> Step {
        guard step == .look else {
            generation += 1
            changeCount += 1
            return .change
        }
        loginCount = command.context.upCount
        let found = command.buffer.bytes[0..<4].reduce(0) { $0 << 8 | UInt64($1) }
        // What was under way was done once or not at all; a target that was killed counts from 0.
        if found > generation + 1 { failures.append("\(found) changes after \(generation)") }
        generation = found
        return .register
    }

    private func begin() {
        switch step {
        case .look:
            command.submit((0x5E << 56, 64 << 56), .read, TestBuffer(byteCount: 64))
        case .register:
            command.submit(Self.register(0x06), .write, Self.keys(0, generation + 1))
        case .change:
            command.submit(Self.register(0x00), .write, Self.keys(generation, generation + 1))
        }
    }

    /// PERSISTENT RESERVE OUT with a service action, and 24 bytes of parameters.
    private static func register(_ action: UInt64) -> (UInt64, UInt64) {
        (0x5F << 56 | action << 48, 24 << 56)
    }

    private static func keys(_ old: UInt64, _ new: UInt64) -> TestBuffer {
        TestBuffer(bytes(old) + bytes(new) + [UInt8](repeating: 0, count: 8))
    }

    /// The most significant byte first.
    private static func bytes(_ word: UInt64) -> [UInt8] {
        (0..<8).reversed().map { UInt8(truncatingIfNeeded: word >> (8 * UInt64($0))) }
    }
}
