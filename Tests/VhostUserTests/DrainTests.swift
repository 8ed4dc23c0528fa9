// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import LinuxIO
import Logging
import Sessions
import Testing
import Virtio

@testable import VhostUser

@Suite("A request that waits for what is in flight", .everyPlacement)
struct DrainTests {
    /// A guest with a buffer in flight on ring 0, or on every ring.
    private func busyGuest(
        _ format: RingFormat = .split, rings: [Int] = [0]
    ) throws -> Guest {
        let guest = try Guest(try BackEnd(), format: format, options: RingOptions(size: 256))
        try guest.start()
        guest.backEnd.device.holds = true
        for index in rings { try guest.offer(Guest.pattern(index), ring: index) }
        _ = guest.backEnd.device.takeEvents()
        return guest
    }

    private func bases(_ reply: Reply) -> UInt32 { FrontEndMessage.integer(reply.payload[4...]) }

    @Test(
        "is answered when all of 128 buffers are done, and nothing is written after that",
        arguments: RingFormat.allCases)
    func getBaseUnderLoad(_ format: RingFormat) throws {
        let guest = try busyGuest(format, rings: [])
        for tag in 0..<64 { try guest.offer(Guest.pattern(tag), tag: tag) }
        #expect(guest.backEnd.device.heldCount == 64)
        try guest.frontEnd.send(.getRingBase(0))
        try guest.backEnd.advance(by: .milliseconds(50))
        #expect(try guest.frontEnd.readReply(within: .zero) == nil)
        guest.backEnd.device.complete()
        let reply = try guest.frontEnd.readReply(to: 11)
        let reaped = try guest.rings[0].driver.reapAll()
        #expect(reaped.map(\.tag) == Array(0..<64))
        #expect(bases(reply) == guest.rings[0].driver.configuration.base)
        try guest.offer([1])
        try guest.backEnd.advance(by: .seconds(10))
        #expect(try guest.echoes() == [])
    }

    @Test("holds back what comes behind it, in its order")
    func order() throws {
        let guest = try busyGuest()
        try guest.frontEnd.send(.getRingBase(0))
        try guest.frontEnd.send(.getFeatures)
        try guest.frontEnd.send(.getRingBase(1))
        try guest.backEnd.turn()
        #expect(try guest.frontEnd.readReply(within: .zero) == nil)
        guest.backEnd.device.complete()
        #expect(try guest.frontEnd.readReply(to: 11).payload[0] == 0)
        #expect(try guest.frontEnd.readReply(to: 1).payload.count == 8)
        #expect(try guest.frontEnd.readReply(to: 11).payload[0] == 1)
    }

    @Test("leaves the other rings running")
    func otherRings() throws {
        let guest = try busyGuest()
        try guest.frontEnd.send(.getRingBase(0))
        try guest.backEnd.turn()
        try guest.offer([7], ring: 1)
        guest.backEnd.device.complete { $0 == 1 }
        #expect(try guest.echoes(ring: 1) == [[7]])
        #expect(try guest.frontEnd.readReply(within: .zero) == nil)
    }

    @Test("signals the driver of the last buffer before it is answered")
    func lastSignal() throws {
        let guest = try busyGuest()
        guest.rings[0].driver.requestSignals()
        _ = guest.rings[0].call.take()
        try guest.frontEnd.send(.getRingBase(0))
        try guest.backEnd.turn()
        guest.backEnd.device.complete()
        _ = try guest.frontEnd.readReply(to: 11)
        #expect(guest.rings[0].call.take() == 1)
    }

    @Test("asks the device to hurry after five seconds, and not before")
    func expedited() throws {
        let guest = try busyGuest()
        try guest.frontEnd.send(.getRingBase(0))
        try guest.backEnd.turn()
        try guest.backEnd.advance(by: .milliseconds(4999))
        #expect(guest.backEnd.device.takeEvents() == ["stop 0"])
        try guest.backEnd.advance(by: .milliseconds(2))
        #expect(guest.backEnd.device.takeEvents() == ["expedite 0"])
        #expect(bases(try guest.frontEnd.readReply(to: 11)) == 1)
        #expect(try guest.echoes() == [Guest.pattern(0)])
    }

    @Test("is answered after ten seconds whatever the device does, and says so")
    func abandoned() throws {
        let guest = try busyGuest()
        guest.backEnd.device.obeysExpedite = false
        try guest.frontEnd.send(.getRingBase(0))
        try guest.backEnd.turn()
        try guest.backEnd.advance(by: .seconds(6))
        #expect(try guest.frontEnd.readReply(within: .zero) == nil)
        try guest.backEnd.advance(by: .seconds(4))
        #expect(bases(try guest.frontEnd.readReply(to: 11)) == 1)
        #expect(guest.backEnd.server.orphanCount == 1)
        let lines = guest.backEnd.log.lines(saying: "still in flight")
        #expect(lines.count == 1 && lines.first?.level == .critical)
        // What ends later reaches neither the ring nor its driver.
        _ = guest.rings[0].call.take()
        guest.backEnd.device.complete()
        try guest.backEnd.turn()
        #expect(try guest.echoes() == [])
        #expect(guest.rings[0].call.take() == 0)
        #expect(guest.backEnd.server.orphanCount == 0)
    }

    @Test(
        "leaves no trace in the ring's next life if it was given up", arguments: RingFormat.allCases
    )
    func nextLife(_ format: RingFormat) throws {
        let guest = try busyGuest(format)
        guest.backEnd.device.obeysExpedite = false
        try guest.frontEnd.send(.getRingBase(0))
        try guest.backEnd.turn()
        try guest.backEnd.advance(by: .seconds(5))
        try guest.backEnd.advance(by: .seconds(5))
        _ = try guest.frontEnd.readReply(to: 11)
        try guest.stop()
        for ring in guest.rings {
            ring.driver.reset(start: 0)
            ring.base = ring.driver.configuration.base
        }
        try guest.start()
        for value in 1...3 as ClosedRange<UInt8> {
            try guest.offer([value])
            guest.backEnd.device.completeNewest(1)
        }
        #expect(try guest.echoes() == [[1], [2], [3]])
        guest.backEnd.device.complete()
        #expect(guest.backEnd.device.completedCount == 4)
        #expect(try guest.echoes() == [])
        try guest.offer([4])
        guest.backEnd.device.complete()
        #expect(try guest.echoes() == [[4]])
    }

    @Test("does not outlive its front-end")
    func disconnect() throws {
        let guest = try busyGuest()
        guest.backEnd.device.obeysExpedite = false
        try guest.frontEnd.send(.getRingBase(0))
        try guest.backEnd.turn()
        guest.frontEnd.disconnect()
        try guest.backEnd.turn()
        #expect(!guest.backEnd.server.isServing)
        #expect(guest.backEnd.device.takeEvents().contains("expedite 0"))
        guest.backEnd.device.complete()
        try guest.backEnd.turn()
        #expect(guest.backEnd.device.takeEvents() == ["reset"])
    }

    @Test("may be the end of one ring of many, each in its turn")
    func everyRing() throws {
        let guest = try busyGuest(rings: [0, 1])
        try guest.frontEnd.send(.setRingEnable(0, false), flags: 0x9)
        try guest.frontEnd.send(.setRingEnable(1, false), flags: 0x9)
        try guest.frontEnd.send(.getRingBase(0))
        try guest.frontEnd.send(.getRingBase(1))
        try guest.backEnd.turn()
        // Only the first has begun: the device still works for the second ring.
        #expect(guest.backEnd.device.takeEvents() == ["stop 0"])
        guest.backEnd.device.complete()
        #expect(try guest.frontEnd.readReply(to: 18).integer == 0)
        #expect(try guest.frontEnd.readReply(to: 18).integer == 0)
        #expect(bases(try guest.frontEnd.readReply(to: 11)) == 1)
        #expect(bases(try guest.frontEnd.readReply(to: 11)) == 1)
    }
}
