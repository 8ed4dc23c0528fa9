// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Synchronization
import Targets
import Testing

@testable import ISCSIBackstore

/// Answers of a disk of 1000 blocks, for the commands that follow a login.
func probeAnswer(_ command: ScriptedCommand) -> ScriptedAnswer? {
    switch command.cdb[0] {
    case 0x12 where command.cdb[1] & 1 == 0:
        .data([0, 0, 6, 2, 31, 0, 0, 0] + Array("EXAMPLE SCRIPTED DISK   0001".utf8))
    case 0x12 where command.cdb[2] == 0x80: .data([0, 0x80, 0, 4] + Array("0042".utf8))
    case 0x12: .data([0, 0x83, 0, 12, 1, 3, 0, 8, 0x60, 0x01, 0x40, 0x50, 1, 2, 3, 4])
    case 0x9E:
        .data([0, 0, 0, 0, 0, 0, 3, 0xE7, 0, 0, 2, 0] + [UInt8](repeating: 0, count: 20))
    default: nil
    }
}

extension ScriptedTarget {
    /// A target with a disk, and its own answers to all other commands.
    convenience init(
        command: @escaping @Sendable (ScriptedCommand) -> ScriptedAnswer?,
        adjust: (inout Script) -> Void = { _ in }
    ) throws {
        var script = Script()
        script.command = { probeAnswer($0) ?? command($0) }
        adjust(&script)
        try self.init(script)
    }
}

@Suite("A session with a difficult target", .serialized)
struct ScriptedTargetTests {
    @Test(
        "says why a login is refused and stays in service",
        arguments: [
            (0x0201, "authentication failed"), (0x0202, "not allowed to use the target"),
            (0x0203, "no target of this name"), (0x0206, "too many connections"),
            (0x0301, "the service is unavailable"), (0x0302, "out of resources"),
        ] as [(UInt16, String)])
    func refusals(status: UInt16, text: String) throws {
        let target = try ScriptedTarget(
            command: { _ in .good }, adjust: { $0.loginStatus = status })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        let error = try context.firstFailure()
        #expect(
            error
                == .loginRefused(portal: "127.0.0.1:\(target.port)", status: status))
        #expect(error?.description.contains(text) == true)
        target.change { $0.loginStatus = 0 }
        #expect(try context.turn { context.session.phase == .up }, "\(context.lines.all)")
    }

    @Test("goes where the target sends it")
    func redirect() throws {
        let there = try ScriptedTarget(command: { _ in .good })
        defer { there.stop() }
        let here = try ScriptedTarget(
            command: { _ in .good },
            adjust: {
                $0.loginStatus = 0x0101
                $0.loginKeys = ["TargetAddress=127.0.0.1:\(there.port),1"]
            })
        defer { here.stop() }
        let context = try SessionContext(here.url)
        #expect(try context.bringUp(), "\(context.lines.all)")
        #expect(there.identifiers.count == 1)
        #expect(try context.run((0, 0)) == .answered(status: 0, .none))
        // The next login begins where the first did.
        there.hangUp()
        #expect(try context.turn { context.upCount == 2 }, "\(context.lines.all)")
        #expect(here.identifiers.count == 2)
    }

    @Test("does not let itself be sent in circles")
    func redirectLoop() throws {
        let target = try ScriptedTarget(command: { _ in .good })
        defer { target.stop() }
        target.change {
            $0.loginStatus = 0x0101
            $0.loginKeys = ["TargetAddress=127.0.0.1:\(target.port),1"]
        }
        let context = try SessionContext(target.url)
        #expect(try context.firstFailure() == .tooManyRedirects(limit: 4))
    }

    @Test("gives a login up that is not answered")
    func loginTimeout() throws {
        let target = try ScriptedTarget(
            command: { _ in .good }, adjust: { $0.answersLogin = false })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        context.session.start()
        try context.turn { context.session.phase == .loggingIn && !target.identifiers.isEmpty }
        context.clock.advance(by: .seconds(16))
        try context.turn { context.session.lastError != nil }
        #expect(
            context.session.lastError
                == .loginTimeout(portal: "127.0.0.1:\(target.port)", .seconds(15)))
    }

    @Test(
        "refuses lengths that would keep the library busy for ever",
        arguments: ["MaxRecvDataSegmentLength=0", "MaxRecvDataSegmentLength=511"])
    func illegalParameter(key: String) throws {
        let target = try ScriptedTarget(
            command: { _ in .good },
            adjust: {
                $0.loginKeys = ["HeaderDigest=None", key]
            })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        let error = try context.firstFailure()
        #expect(error?.description.contains("which RFC 7143 does not allow") == true)
    }

    @Test("logs in under the same name each time")
    func sameIdentifier() throws {
        let target = try ScriptedTarget(command: { _ in .good })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        try context.bringUp()
        target.hangUp()
        #expect(try context.turn { context.upCount == 2 })
        // Type 10b (random), then the 24 and 16 bits of the identifier 12_3456_789Ah.
        #expect(
            target.identifiers == [
                [0x80, 0x12, 0x34, 0x56, 0x78, 0x9A], [0x80, 0x12, 0x34, 0x56, 0x78, 0x9A],
            ])
    }

    @Test("repeats what may be repeated, in the old order, and nothing else")
    func repeats() throws {
        let isSilent = Atomic(true)
        let target = try ScriptedTarget(command: { _ in
            isSilent.load(ordering: .relaxed) ? nil : .good
        })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        try context.bringUp()
        let probeCount = target.commands.count
        let data = TestBuffer(byteCount: 1024)
        // WRITE(16) of block 1, COMPARE AND WRITE, READ of block 2, PERSISTENT RESERVE OUT,
        // SYNCHRONIZE CACHE, ORWRITE, UNMAP; the first byte tells them apart.
        context.submit(
            BlockCDB.write(1, 1), direction: .write, byteCount: 512, pieces: data.pieces)
        let compare = context.submit(
            (0x8900_0000_0000_0000, 0x0000_0000_0000_0100), direction: .write, byteCount: 1024,
            pieces: data.pieces)
        context.submit(BlockCDB.read(2, 1), direction: .read, byteCount: 512, pieces: data.pieces)
        let reserve = context.submit(
            (0x5F00_0000_0000_0000, 0x1800_0000_0000_0000), direction: .write, byteCount: 24,
            pieces: data.pieces)
        context.submit((0x3500_0000_0000_0000, 0))
        let combine = context.submit(
            (0x8B00_0000_0000_0000, 0x0000_0000_0001_0000), direction: .write, byteCount: 512,
            pieces: data.pieces)
        context.submit((0x4200_0000_0000_0000, 0))
        #expect(try context.turn { target.commands.count == probeCount + 7 })
        isSilent.store(false, ordering: .relaxed)
        target.hangUp()
        #expect(try context.turn { context.outcomes.count == 7 }, "\(context.lines.all)")
        for token in [compare, reserve, combine] {
            #expect(context.outcomes[token] == .nexusLost)
        }
        let again = target.commands.dropFirst(probeCount + 7).map { $0.cdb[0] }
            .filter { $0 != 0x12 && $0 != 0x9E }
        #expect(again == [0x8A, 0x88, 0x35, 0x42])
    }

    @Test("has COMPARE AND WRITE done once, wherever the connection breaks", arguments: 0..<2)
    func comparesOnce(isDone: Int) throws {
        // Answers every second one, and breaks off at the others before or after it is done.
        let counts = Mutex((asked: 0, done: 0))
        let target = try ScriptedTarget(command: { command in
            guard command.cdb[0] == 0x89 else { return .good }
            return counts.withLock { counts in
                counts.asked += 1
                let isAnswered = counts.asked % 2 == 0
                if isAnswered || isDone == 1 { counts.done += 1 }
                return isAnswered ? .good : .hangUp
            }
        })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        try context.bringUp()
        let blocks = TestBuffer(byteCount: 1024)
        for round in 1...50 {
            let outcome = try context.run(
                (0x8900_0000_0000_0000, 0x0000_0000_0001_0000), direction: .write, byteCount: 1024,
                pieces: blocks.pieces)
            #expect(outcome == (round % 2 == 0 ? .answered(status: 0, .none) : .nexusLost))
        }
        #expect(counts.withLock { $0.asked } == 50)
        #expect(counts.withLock { $0.done } == (isDone == 1 ? 50 : 25))
    }

    @Test("sends what had not been sent, whatever it is, after the next login")
    func waitingIsSent() throws {
        let target = try ScriptedTarget(command: { _ in .good })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        try context.bringUp()
        target.change { $0.loginStatus = 0x0301 }
        target.hangUp()
        try context.turn { context.downCount == 1 }
        let token = context.submit((0x5F00_0000_0000_0000, 0))
        try context.turn(atMost: .milliseconds(100)) { false }
        target.change { $0.loginStatus = 0 }
        #expect(try context.turn { context.outcomes[token] != nil })
        #expect(context.outcomes[token] == .answered(status: 0, .none))
    }

    @Test("does not send a command for ever that the target breaks the connection at")
    func poison() throws {
        let target = try ScriptedTarget(command: { command in
            // A status that SAM does not have.
            command.cdb[0] == 0x28 ? .status(0x22) : .good
        })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        try context.bringUp()
        let token = context.submit((0x2800_0000_0000_0000, 0))
        #expect(try context.turn { context.outcomes[token] != nil }, "\(context.lines.all)")
        #expect(context.outcomes[token] == .refused)
        #expect(target.commands.filter { $0.cdb[0] == 0x28 }.count == 3)
    }

    @Test("keeps to the target's window")
    func window() throws {
        let target = try ScriptedTarget(
            command: { _ in .good }, adjust: { $0.window = 1 })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        #expect(try context.bringUp(), "\(context.lines.all)")
        for _ in 0..<200 { context.submit((0, 0)) }
        #expect(try context.turn { context.outcomes.count == 200 })
        #expect(context.order == Array(1...200))
    }

    @Test("asks an idle unit for what it has to say")
    func attentionPoll() throws {
        let isDue = Atomic(true)
        let target = try ScriptedTarget(command: { command in
            let isFirst = isDue.exchange(false, ordering: .relaxed)
            return command.cdb[0] == 0 && isFirst ? .check(0x6, 0x2A, 0x09) : .good
        })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        try context.bringUp()
        for _ in 0..<4 { try context.keepAlive() }
        #expect(context.attentions.map { [$0[2], $0[12], $0[13]] } == [[0x06, 0x2A, 0x09]])
    }

    @Test("reads sense data of no length as none")
    func emptySense() throws {
        let target = try ScriptedTarget(command: { _ in .status(0x02, sense: [0]) })
        defer { target.stop() }
        let context = try SessionContext(target.url)
        try context.bringUp()
        #expect(try context.run((0, 0)) == .answered(status: 0x02, .none))
        #expect(context.sense[1] == [0])
    }
}
