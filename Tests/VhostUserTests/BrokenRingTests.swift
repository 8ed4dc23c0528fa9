// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Sessions
import Testing

@Suite("A ring that the driver broke", .everyPlacement)
struct BrokenRingTests {
    @Test("is told to the front-end when the device looks at it by itself, without a kick")
    func lookedAtByTheDevice() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        guest.ring.kick.raise()
        try guest.backEnd.turn()
        guest.ring.driver.offerRaw([
            RawDescriptor(address: 0xdead_0000, length: 16, flags: RawDescriptor.indirect)
        ])
        guest.backEnd.device.driverNotified(queueAt: 0)
        try guest.backEnd.turn()
        #expect(guest.ring.error.take() == 1)
        #expect(guest.backEnd.log.lines(saying: "driver broke a ring").count == 1)
    }

    @Test("is told to the front-end once, and to the log in one line")
    func brokenRing() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        guest.ring.driver.offerRaw([
            RawDescriptor(address: 0xdead_0000, length: 16, flags: RawDescriptor.indirect)
        ])
        try guest.backEnd.turn()
        for _ in 0..<10 {
            guest.ring.kick.raise()
            try guest.backEnd.turn()
        }
        #expect(guest.ring.error.take() == 1)
        #expect(guest.backEnd.log.lines(saying: "driver broke a ring").count == 1)
        // Stopping the ring heals it.
        _ = try guest.frontEnd.ask(.getRingBase(0))
        guest.ring.driver.reset(start: 0)
        try guest.configure()
        try guest.setKick()
        try guest.offer([4])
        #expect(try guest.echoes() == [[4]])
    }
}
