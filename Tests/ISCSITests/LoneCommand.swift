// SPDX-License-Identifier: Apache-2.0

import LinuxIO

@testable import ISCSIBackstore

/// At most one command under way, and what it has come to.
struct LoneCommand {
    let context: SessionContext
    /// The data of the last command.
    private(set) var buffer = TestBuffer(byteCount: 0)
    private var token: UInt64 = 0

    init(_ context: SessionContext) {
        self.context = context
    }

    var isIdle: Bool { token == 0 }

    mutating func submit(
        _ cdb: (UInt64, UInt64), _ direction: ISCSICommand.Direction, _ buffer: TestBuffer
    ) {
        self.buffer = buffer
        token = context.submit(
            cdb, direction: direction, byteCount: buffer.bytes.count, pieces: buffer.pieces)
    }

    /// How the command has ended, once; nil when it has not.
    mutating func takeOutcome() -> (ISCSIOutcome, sense: [UInt8])? {
        guard token != 0, let outcome = context.outcomes[token] else { return nil }
        defer { token = 0 }
        return (outcome, context.sense[token] ?? [])
    }
}
