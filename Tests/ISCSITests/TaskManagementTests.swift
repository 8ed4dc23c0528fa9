// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Synchronization
import Targets
import Testing

@testable import ISCSIBackstore

@Suite("Task management over iSCSI", .serialized)
struct TaskManagementTests {
    /// ABORT TASK 1, ABORT TASK SET 2, LOGICAL UNIT RESET 5 (RFC 7143 §11.5.1).
    @Test("aborts a command at the target, and touches its memory no more")
    func abort() throws {
        let held = try HeldReads(2)
        defer { held.target.stop() }
        let context = held.context
        context.session.abort(token: held.tokens[0])
        #expect(
            try context.turn { context.outcomes[held.tokens[0]] != nil }, "\(context.lines.all)")
        #expect(context.outcomes[held.tokens[0]] == .aborted)
        #expect(held.target.functions == [1])
        #expect(context.outcomes[held.tokens[1]] == nil)
        #expect(context.downCount == 0)
        #expect(try context.run((0, 0)) == .answered(status: 0, .none))
    }

    @Test("takes back at once what the target has not got")
    func abortWaiting() throws {
        let target = try ScriptedTarget(
            command: { _ in .good }, adjust: { $0.loginStatus = 0x0301 })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        context.session.start()
        let token = context.submit((0, 0))
        context.session.abort(token: token)
        #expect(context.outcomes[token] == .aborted)
    }

    @Test("aborts everything with one request")
    func abortAll() throws {
        let held = try HeldReads(20)
        defer { held.target.stop() }
        let context = held.context
        for token in held.tokens { context.session.abort(token: token) }
        #expect(try context.turn { context.outcomes.count == 20 })
        #expect(context.outcomes.values.allSatisfy { $0 == .aborted })
        #expect(held.target.functions == [2])
    }

    @Test("resets the unit where aborting does not help, and then the session")
    func escalates() throws {
        let held = try HeldReads(1, adjust: { $0.management = { $0 == 1 ? 0xFF : nil } })
        defer { held.target.stop() }
        let (target, context, token) = (held.target, held.context, held.tokens[0])
        context.session.abort(token: token)
        #expect(try context.turn { target.functions == [1, 5] }, "\(target.functions)")
        #expect(context.outcomes[token] == nil)
        context.clock.advance(by: .seconds(11))
        #expect(try context.turn { context.outcomes[token] != nil })
        #expect(context.outcomes[token] == .aborted)
        #expect(context.downCount == 1)
        // What the kernel still held of the old connection must not come after the new one.
        #expect(try context.turn { target.resetCount == 1 })
        #expect(try context.turn { context.upCount == 2 })
    }

    @Test("resets the unit, and does again what the reset ended at the target")
    func reset() throws {
        let held = try HeldReads(1)
        defer { held.target.stop() }
        let (context, token) = (held.context, held.tokens[0])
        held.answerFromNowOn()
        context.session.reset()
        #expect(try context.turn { context.outcomes[token] != nil })
        #expect(context.outcomes[token] == .answered(status: 0, .none))
        #expect(held.target.functions == [5])
    }

    @Test("makes up for a reset that was asked for without a session")
    func owedReset() throws {
        let target = try ScriptedTarget(command: { _ in .good })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        try context.bringUp()
        target.change { $0.loginStatus = 0x0301 }
        target.hangUp()
        try context.turn { context.downCount == 1 }
        context.session.reset()
        let token = context.submit((0, 0))
        target.change { $0.loginStatus = 0 }
        #expect(try context.turn { context.outcomes[token] != nil })
        #expect(target.functions == [5])
    }

    @Test("logs in anew for an initiator that starts anew, once it was used")
    func reinstates() throws {
        let target = try ScriptedTarget(command: { _ in .good })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        try context.bringUp()
        context.session.reinstate()
        try context.turn(atMost: .milliseconds(50)) { false }
        #expect(context.upCount == 1)
        _ = try context.run((0, 0))
        context.session.reinstate()
        #expect(try context.turn { context.upCount == 2 })
        #expect(context.lines.count(containing: "warning") == 0)
    }
}

/// A session that is up, and reads under way at a target that keeps them.
private final class HeldReads {
    private final class Gate: Sendable {
        let isOpen = Atomic(false)
    }

    let target: ScriptedTarget
    let context: SessionContext
    let tokens: [UInt64]
    private let gate = Gate()
    private let data = TestBuffer(byteCount: 512)

    init(_ count: Int, adjust: (inout ScriptedTarget.Script) -> Void = { _ in }) throws {
        let (gate, data) = (gate, data)
        let target = try ScriptedTarget(
            command: { command in
                command.cdb[0] == 0x88 && !gate.isOpen.load(ordering: .relaxed) ? nil : .good
            }, adjust: adjust)
        let context = try SessionContext(target.url)
        try context.bringUp()
        tokens = (0..<count).map { _ in
            context.submit(
                BlockCDB.read(1, 1), direction: .read, byteCount: 512, pieces: data.pieces)
        }
        try context.turn { target.commands.filter { $0.cdb[0] == 0x88 }.count == count }
        (self.target, self.context) = (target, context)
    }

    /// Has the target answer reads that come from now on.
    func answerFromNowOn() {
        gate.isOpen.store(true, ordering: .relaxed)
    }
}
