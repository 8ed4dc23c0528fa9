// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Glibc
import Kernel
import LinuxIO
import Sessions
import Testing
import Virtio

@testable import VhostUser

/// The test decides when the servers open their letters.
@Suite("A ring that is served on another thread", .servedElsewhere)
struct LetterTests {
    private func base(_ reply: Reply) -> UInt32 { FrontEndMessage.integer(reply.payload[4...]) }

    private func started(_ format: RingFormat) throws -> Guest {
        let guest = try Guest(try BackEnd(), format: format)
        try guest.start()
        return guest
    }

    @Test(
        "is not stopped before that thread has stopped, however long it takes",
        arguments: RingFormat.allCases)
    func busyThread(_ format: RingFormat) throws {
        let guest = try started(format)
        try guest.frontEnd.send(.getRingBase(0))
        for _ in 0..<3 {
            guest.backEnd.clock.advance(by: .seconds(10))
            try guest.backEnd.turnAlone()
        }
        #expect(try guest.backEnd.reply(to: guest) == nil)
        // The thread is still at work, and what it does counts.
        guest.rings[0].driver.offer(readable: [[5]], writable: [1])
        guest.backEnd.device.driverNotified(queueAt: 0)
        try guest.backEnd.turn()
        let reply = try guest.frontEnd.readReply(to: 11)
        #expect(base(reply) == guest.rings[0].driver.configuration.base)
        #expect(try guest.echoes() == [[5]])
        #expect(guest.backEnd.server.orphanCount == 0)
    }

    @Test("is cut off by that thread before a wait that is given up ends")
    func cutOffThread() throws {
        let guest = try started(.split)
        guest.backEnd.device.holds = true
        guest.backEnd.device.obeysExpedite = false
        try guest.offer([1])
        try guest.frontEnd.send(.getRingBase(0))
        try guest.backEnd.turn()
        guest.backEnd.clock.advance(by: .seconds(6))
        try guest.backEnd.turn()
        guest.backEnd.clock.advance(by: .seconds(4))
        try guest.backEnd.turnAlone()
        #expect(try guest.backEnd.reply(to: guest) == nil)
        // Meanwhile the request ends after all: that is as good.
        guest.backEnd.device.complete()
        try guest.backEnd.turn()
        #expect(base(try guest.frontEnd.readReply(to: 11)) == 1)
        #expect(try guest.echoes() == [[1]])
        #expect(guest.backEnd.server.orphanCount == 0)
    }

    @Test("does not end with its session while that thread is busy")
    func disconnect() throws {
        let guest = try started(.packed)
        guest.backEnd.device.holds = true
        try guest.offer([1])
        _ = guest.backEnd.device.takeEvents()
        guest.frontEnd.disconnect()
        try guest.backEnd.turnAlone()
        guest.backEnd.clock.advance(by: .seconds(20))
        try guest.backEnd.turnAlone()
        #expect(!guest.backEnd.device.takeEvents().contains("reset"))
        try guest.backEnd.turn()
        #expect(guest.backEnd.device.takeEvents().last == "reset")
        #expect(guest.backEnd.device.heldCount == 0)
        #expect(guest.backEnd.server.orphanCount == 0)
    }

    @Test("knows a region before its addition is acknowledged")
    func addedRegion() throws {
        let memory = try TestMemory([
            TestMemory.Region(at: 0x10_0000, byteCount: 4 << 20),
            TestMemory.Region(at: 0x100_0000, byteCount: 4 << 20),
        ])
        let guest = try Guest(try BackEnd(), memory: memory)
        try guest.start()
        try guest.frontEnd.require(.removeMemoryRegion(memory.regions[1]))
        try guest.backEnd.turn()
        _ = guest.backEnd.device.takeEvents()
        try guest.frontEnd.send(.addMemoryRegion(memory, 1), flags: 0x9)
        try guest.frontEnd.send(.getFeatures)
        try guest.backEnd.turnAlone()
        #expect(try guest.backEnd.reply(to: guest) == nil)
        try guest.backEnd.turn()
        #expect(try guest.frontEnd.readReply(to: 37).integer == 0)
        #expect(try guest.frontEnd.readReply(to: 1).payload.count == 8)
        // And no queue was stopped for it.
        #expect(guest.backEnd.device.takeEvents() == [])
        let source = memory.allocate(byteCount: 32, inRegion: 1)
        memory.fill(0x5a, at: source, count: 32)
        guest.rings[0].driver.offer(
            Chain(
                readable: [Segment(at: source, byteCount: 32)],
                writable: [memory.segment(byteCount: 32)]))
        try guest.backEnd.turn()
        #expect(try guest.echoes() == [[UInt8](repeating: 0x5a, count: 32)])
    }

    @Test("does not start for a kick whose letter comes when GET_VRING_BASE has dropped it")
    func staleKick() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        try guest.frontEnd.send(.getRingBase(0))
        guest.ring.kick.raise()
        for server in guest.backEnd.queueServers {
            try server.loop.turn(waitingAtMost: .zero)
        }
        try guest.backEnd.turn()
        #expect(base(try guest.frontEnd.readReply(to: 11)) == 0)
        #expect(guest.backEnd.device.takeEvents() == [])
        // The next descriptor is heard, and what was kicked before it came is not lost.
        try guest.setKick()
        #expect(guest.backEnd.device.takeEvents() == ["features", "start 0"])
    }

    @Test("signals the driver that has not been told, through the descriptor that came last")
    func swappedCall() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        guest.ring.driver.requestSignals()
        try guest.offer([1])
        _ = guest.ring.call.take()
        let other = try Signal()
        let last = try Signal()
        try guest.frontEnd.send(.setRingCall(0, other.rawDescriptor))
        try guest.frontEnd.send(.setRingCall(0, last.rawDescriptor))
        try guest.backEnd.turnAlone()
        #expect(other.take() + last.take() == 0)
        try guest.backEnd.turn()
        #expect(last.take() == 1)
        guest.ring.driver.requestSignals()
        try guest.offer([2])
        #expect(last.take() == 1)
        #expect(guest.ring.call.take() == 0)
    }

    @Test("keeps few of the descriptors that come one after the other while that thread is busy")
    func manyDescriptors() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        var readEnds: [Int32] = []
        defer { for end in readEnds { close(end) } }
        for number in 0..<50 {
            var ends: [Int32] = [-1, -1]
            try #require(unsafe pipe(&ends) == 0)
            readEnds.append(ends[0])
            let writeEnd = OwnedDescriptor(taking: ends[1])
            let descriptor = writeEnd.rawValue
            try guest.frontEnd.send(
                number % 2 == 0 ? .setRingCall(0, descriptor) : .setRingKick(0, descriptor))
            try guest.backEnd.turnAlone()
        }
        // An end hangs up when nobody has the other one any more.
        let keptCount = readEnds.count { end in
            var state = pollfd(fd: end, events: 0, revents: 0)
            _ = unsafe poll(&state, 1, 0)
            return Int32(state.revents) & POLLHUP == 0
        }
        #expect(keptCount <= 3)
        try guest.backEnd.turn()
    }

    @Test("is told to be broken once, and not after it was stopped")
    func lateBreakage() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        try guest.offer([1])
        guest.ring.driver.offerRaw([
            RawDescriptor(address: 0xdead_0000, length: 16, flags: RawDescriptor.indirect)
        ])
        for server in guest.backEnd.queueServers {
            try server.loop.turn(waitingAtMost: .zero)
        }
        _ = try guest.frontEnd.ask(.getRingBase(0))
        guest.ring.driver.reset(start: 0)
        try guest.configure()
        try guest.setKick()
        try guest.offer([4])
        #expect(try guest.echoes().last == [4])
    }
}

extension BackEnd {
    /// What the front-end has got while the servers open no letter.
    fileprivate func reply(to guest: Guest) throws -> Reply? {
        let pump = guest.frontEnd.pump
        defer { guest.frontEnd.pump = pump }
        guest.frontEnd.pump = { [self] in try turnAlone() }
        return try guest.frontEnd.readReply(within: .zero)
    }
}
