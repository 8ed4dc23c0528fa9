// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Targets
import Testing

@testable import ISCSIBackstore

@Suite("A session whose target goes away", .serialized)
struct RecoveryTests {
    @Test(
        "is up again when the target is; nothing is lost, wrong or done twice",
        arguments: Outage.possible)
    func outages(outage: Outage) throws {
        let away = try UnsteadyTarget(outage)
        let context = try SessionContext(away.target.url())
        #expect(try context.bringUp(), "\(context.lines.all)")
        let load = VerifiedLoad(context, depth: 32)
        for round in 1...Outage.roundCount {
            try load.run(commands: 200)
            try away.goAway()
            // What is dropped is nothing that anybody hears of: the clock has to be put forward.
            try load.run {
                if away.isFirewalled { context.clock.advance(by: .milliseconds(100)) }
                return context.downCount == round
            }
            try load.run(for: .milliseconds(50))
            try away.comeBack()
            try load.run {
                if away.isFirewalled { context.clock.advance(by: .milliseconds(20)) }
                return context.upCount == round + 1
            }
            #expect(context.downCount == round && context.upCount == round + 1)
        }
        try load.run(commands: 200)
        try load.finish()
        #expect(load.failures.isEmpty, "\(context.lines.all)")
        #expect(load.once.changeCount > 0)
        #expect(context.lines.count(containing: "warning session down") == Outage.roundCount)
        #expect(context.lines.count(containing: "info session up") == Outage.roundCount + 1)
    }

    @Test("goes on at another portal when one goes away under load")
    func failover() throws {
        let target = try TgtTarget()
        let ports = [target.port, ListeningSockets.freePort()]
        try target.openPortal(ports[1])
        let url = target.url().replacing(
            ":\(ports[0])/", with: ":\(ports[0]),127.0.0.1:\(ports[1])/")
        let context = try SessionContext(url)
        #expect(try context.bringUp(), "\(context.lines.all)")
        let load = VerifiedLoad(context, depth: 16)
        for round in 1...Outage.roundCount {
            try load.run(commands: 100)
            try target.closePortal(ports[(round - 1) % 2])
            try target.deleteConnections()
            try load.run { context.upCount == round + 1 }
            #expect(context.session.attempt.portal?.port == ports[round % 2])
            try target.openPortal(ports[(round - 1) % 2])
        }
        try load.run(commands: 100)
        try load.finish()
        #expect(load.failures.isEmpty, "\(context.lines.all)")
    }

    @Test("is given up when the target falls silent, and only then")
    func silent() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        // A target that answers is asked again and again, and is there.
        for _ in 0..<10 { try context.keepAlive() }
        #expect(context.downCount == 0)
        target.freeze()
        try context.turn {
            context.clock.advance(by: .milliseconds(100))
            return context.downCount == 1
        }
        #expect(context.downCount == 1)
        #expect(
            context.lines.count(containing: "the target has said nothing for 15.0 seconds") == 1,
            "\(context.lines.all)")
        target.thaw()
        #expect(try context.turn { context.session.phase == .up }, "\(context.lines.all)")
    }

    @Test("makes commands wait until the replacement timeout, and then fails them")
    func replacementTimeout() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        target.kill()
        try context.turn { context.downCount == 1 }
        let waiting = context.submit((0, 0))
        context.clock.advance(by: .seconds(119))
        try context.turn(atMost: .milliseconds(50)) { false }
        #expect(context.outcomes[waiting] == nil)
        context.clock.advance(by: .seconds(2))
        #expect(try context.turn { context.outcomes[waiting] != nil })
        #expect(context.outcomes[waiting] == .transportFailed)
        #expect(try context.run((0, 0)) == .transportFailed)
        #expect(context.lines.count(containing: "error no session within") == 1)
        try target.start()
        context.clock.advance(by: .seconds(5))
        #expect(try context.turn { context.session.phase == .up }, "\(context.lines.all)")
        #expect(try context.run((0, 0)) == .answered(status: 0x00, .none))
        // What the target had to say about its restart is for the initiator: 29h.
        #expect(context.attentions.map { $0[12] } == [0x29])
        #expect(context.session.hasGivenUp == false)
    }

    @Test("refuses a LUN that has come to lead to another unit, and takes the right one back")
    func remapped() throws {
        var setUp = TgtTarget.Configuration()
        setUp.diskByteCounts = [64 << 20, 64 << 20]
        let target = try TgtTarget(setUp)
        let context = try SessionContext(target.url())
        try context.bringUp()
        try target.removeUnit(1)
        try target.removeUnit(2)
        try target.addUnit(1, disk: 2)
        try target.deleteConnections()
        #expect(
            try context.turn {
                context.lines.count(containing: "leads to another logical unit") == 1
            }, "\(context.lines.all)")
        let token = context.submit(BlockCDB.write(0, 0))
        let attempts = context.session.attempt.failureCount
        try context.turn { context.session.attempt.failureCount > attempts + 1 }
        #expect(context.outcomes[token] == nil)
        #expect(context.session.phase != .up)
        try target.removeUnit(1)
        try target.addUnit(1, disk: 1)
        #expect(try context.turn { context.session.phase == .up }, "\(context.lines.all)")
        #expect(try context.turn { context.outcomes[token] != nil })
    }

    /// Nobody listens; nobody answers; somebody refuses.
    enum Absence: CaseIterable {
        case closed, frozen, refusing
    }

    @Test("sleeps while it is down", arguments: Absence.allCases)
    func noSpin(absence: Absence) throws {
        var setUp = TgtTarget.Configuration()
        if absence == .refusing { setUp.account = ("joe", "secret-of-joe") }
        let target = try TgtTarget(setUp)
        if absence == .frozen { target.freeze() }
        if absence == .closed { target.kill() }
        let context = try SessionContext(target.url())
        context.session.start()
        try context.turn {
            context.clock.advance(by: .milliseconds(100))
            return context.session.attempt.failureCount >= 6
        }
        let attempts = context.session.attempt.failureCount
        let before = ProcessUsage.threadTime
        var turnCount = 0
        let end = SystemClock().now.advanced(byNanoseconds: 3_000_000_000)
        while SystemClock().now < end {
            try context.loop.turn(waitingAtMost: .seconds(1))
            turnCount += 1
        }
        // An attempt is a handful of events; a spin would be thousands of turns.
        let made = context.session.attempt.failureCount - attempts
        #expect(turnCount <= 4 + 20 * (made + 1), "\(made) attempts")
        let used = ProcessUsage.threadTime - before
        #expect(used < .milliseconds(300), "a tenth of the time, on however busy a machine")
    }

    @Test("does not grow over a thousand logins")
    func flatMemory() async {
        // In a process of its own: other tests use memory and descriptors, too.
        await #expect(processExitsWith: .success) {
            try RecoveryTests.logInAgainAndAgain()
        }
    }

    static func logInAgainAndAgain() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        let buffer = TestBuffer(byteCount: 65536)
        var residentAfterWarmUp = 0
        let descriptorCount = ProcessUsage.descriptorCount
        for round in 1...1100 {
            for _ in 0..<8 {
                context.submit(
                    BlockCDB.read(0, 128), direction: .read, byteCount: 65536,
                    pieces: buffer.pieces)
            }
            try context.loop.turn(waitingAtMost: .zero)
            context.breakConnection()
            #expect(try context.turn { context.upCount == round + 1 }, "\(context.lines.all)")
            if round == 100 { residentAfterWarmUp = ProcessUsage.residentByteCount }
            context.forget()
        }
        let growth = ProcessUsage.residentByteCount - residentAfterWarmUp
        #expect(growth < 2 << 20, "\(growth) bytes")
        #expect(ProcessUsage.descriptorCount <= descriptorCount)
    }
}
