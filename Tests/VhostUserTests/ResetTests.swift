// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Sessions
import Testing
import Virtio

@testable import VhostUser

@Suite("RESET_DEVICE", .everyPlacement)
struct ResetTests {
    @Test("ends what is in flight, and writes nothing after that", arguments: RingFormat.allCases)
    func inFlight(_ format: RingFormat) throws {
        let guest = try Guest(try BackEnd(), format: format)
        try guest.start()
        guest.backEnd.device.holds = true
        try guest.offer([1])
        _ = guest.backEnd.device.takeEvents()
        try guest.frontEnd.require(.resetDevice)
        // Each server has its own order; the reset comes when all is done.
        let events = guest.backEnd.device.takeEvents()
        #expect(events.sorted() == ["expedite 0", "reset", "stop 0", "stop 1"])
        #expect(events.last == "reset")
        _ = try guest.echoes()
        try guest.offer([2])
        try guest.backEnd.advance(by: .seconds(20))
        #expect(try guest.echoes() == [])
    }

    @Test("leaves memory and error descriptors alone: only features and rings come again")
    func whatStays() throws {
        let guest = try HandLedGuest(try BackEnd())
        let frontEnd = guest.frontEnd
        try frontEnd.send(.setProtocolFeatures(1 << 3 | 1 << 13))
        frontEnd.protocolFeatures = 1 << 3 | 1 << 13
        for _ in 0..<5 {
            try guest.setKick()
            try guest.enable()
            try guest.offer([1])
            #expect(try guest.echoes() == [[1]])
            try frontEnd.require(.resetDevice)
            guest.ring.driver.reset(start: 0)
            try frontEnd.require(.setFeatures(1 << 32 | 1 << 30))
            try frontEnd.require(.setRingSize(0, 16))
            try frontEnd.require(guest.ring.addressMessage())
            try frontEnd.require(.setRingCall(0, guest.ring.call.rawDescriptor))
        }
        try guest.setKick()
        try guest.enable()
        guest.ring.driver.offerRaw([
            RawDescriptor(address: 0xdead_0000, length: 16, flags: RawDescriptor.indirect)
        ])
        try guest.backEnd.turn()
        #expect(guest.ring.error.take() == 1)
    }

    @Test("disables rings, and forgets where they were")
    func rings() throws {
        let guest = try HandLedGuest(try BackEnd())
        let frontEnd = guest.frontEnd
        try frontEnd.send(.setProtocolFeatures(1 << 3 | 1 << 13))
        try guest.setKick()
        try guest.enable()
        try guest.offer([1])
        try frontEnd.require(.resetDevice)
        #expect(try frontEnd.ask(.getRingBase(0)).payload == [0, 0, 0, 0, 0, 0, 0, 0])
        guest.ring.driver.reset(start: 0)
        try frontEnd.require(.setFeatures(1 << 32 | 1 << 30))
        try guest.configure()
        try guest.setKick()
        try guest.offer([2])
        #expect(try guest.echoes() == [])
        try guest.enable()
        #expect(try guest.echoes() == [[2]])
    }

    @Test("is not what RESET_OWNER does, which disables rings and no more")
    func resetOwner() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        try guest.offer([1])
        _ = guest.backEnd.device.takeEvents()
        try guest.frontEnd.require(.resetOwner)
        #expect(guest.backEnd.device.takeEvents() == ["stop 0"])
        try guest.offer([2])
        #expect(try guest.echoes() == [[1]])
        try guest.enable()
        #expect(try guest.echoes() == [[2]])
    }
}
