// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Targets
import Testing

@testable import ISCSIBackstore

@Suite("A session whose target goes away", .serialized)
struct RecoveryTests {
    @Test("is up again when the target is, and no command is lost or wrong")
    func killedUnderLoad() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        let load = VerifiedLoad(context, depth: 32)
        for round in 1...10 {
            try load.run(for: .milliseconds(100))
            target.kill()
            try load.run(for: .milliseconds(50))
            #expect(context.session.phase != .up)
            try target.start()
            #expect(try context.turn { context.session.phase == .up }, "\(context.lines.all)")
            #expect(context.upCount == round + 1)
        }
        try load.finish()
        #expect(load.failures.isEmpty)
        #expect(load.completedCount > 500)
        #expect(context.lines.count(containing: "warning session down") == 10)
        #expect(context.lines.count(containing: "info session up") == 11)
    }

    @Test("loses nothing when its connection is deleted at the target")
    func connectionDeleted() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        let load = VerifiedLoad(context, depth: 32)
        for _ in 1...10 {
            try load.run(for: .milliseconds(50))
            let count = context.upCount
            try target.deleteConnections()
            #expect(try context.turn { context.upCount > count }, "\(context.lines.all)")
        }
        try load.finish()
        #expect(load.failures.isEmpty)
        #expect(context.downCount == 10)
    }

    @Test(
        "loses nothing when a firewall closes and opens the target's port",
        arguments: Network.Firewall.allCases)
    func firewalled(firewall: Network.Firewall) throws {
        var setUp = TgtTarget.Configuration()
        let network = try Network()
        setUp.network = network
        let target = try TgtTarget(setUp)
        let context = try SessionContext(target.url())
        #expect(try context.bringUp(), "\(context.lines.all)")
        let load = VerifiedLoad(context, depth: 16)
        for round in 1...3 {
            try load.run(for: .milliseconds(100))
            try network.close(target.port, by: firewall)
            try load.run(for: .milliseconds(200))
            // A dropped packet is nothing that anybody hears of: the clock has to be put forward.
            for _ in 0..<6 where context.session.phase == .up {
                context.clock.advance(by: .seconds(5))
                try load.run(for: .milliseconds(20))
            }
            #expect(context.downCount == round, "\(context.lines.all)")
            try load.run(for: .milliseconds(300))
            try network.open()
            #expect(
                try context.turn {
                    context.clock.advance(by: .milliseconds(20))
                    return context.session.phase == .up
                }, "\(context.lines.all)")
        }
        try load.finish()
        #expect(load.failures.isEmpty)
    }

    @Test("is given up when the target falls silent, and only then")
    func silent() throws {
        let target = try TgtTarget()
        let context = try SessionContext(target.url())
        try context.bringUp()
        // A target that answers is asked again and again, and is there.
        for _ in 0..<10 {
            context.clock.advance(by: .seconds(5))
            try context.turn(atMost: .milliseconds(100)) { false }
        }
        #expect(context.downCount == 0)
        target.freeze()
        for _ in 0..<6 where context.downCount == 0 {
            context.clock.advance(by: .seconds(5))
            try context.turn(atMost: .milliseconds(30)) { false }
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
        try context.turn(atMost: .milliseconds(500)) { false }
        #expect(context.outcomes[token] == nil)
        #expect(context.session.phase != .up)
        try target.removeUnit(1)
        try target.addUnit(1, disk: 1)
        #expect(try context.turn { context.session.phase == .up }, "\(context.lines.all)")
        #expect(try context.turn { context.outcomes[token] != nil })
    }

    @Test("uses no processor time while it is down")
    func noSpin() throws {
        let port = ListeningSockets.freePort()
        let context = try SessionContext("iscsi://127.0.0.1:\(port)/iqn.2026-01.com.example:d/1")
        context.session.start()
        try context.turn(atMost: .seconds(4)) { false }
        let before = ProcessUsage.threadTime
        try context.turn(atMost: .seconds(3)) { false }
        let used = ProcessUsage.threadTime - before
        #expect(used < .milliseconds(60), "\(used)")
    }

    @Test("does not grow over a thousand logins")
    func flatMemory() throws {
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
