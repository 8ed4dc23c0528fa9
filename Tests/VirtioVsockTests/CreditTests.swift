// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VirtioVsock

/// Compares what a changing call returned.
private func check(_ expected: Bool, _ outcome: Bool) {
    #expect(outcome == expected)
}

@Suite("Credit for the guest")
struct HostboundCreditTests {
    @Test("holds as many bytes as were granted, and not one more")
    func limit() {
        var credit = HostboundCredit(allocation: 100)
        check(true, credit.receive(100))
        check(false, credit.receive(1))
        credit.forward(40)
        check(true, credit.receive(40))
        check(false, credit.receive(0xffff_ffff))
        #expect(credit.held == 100)
    }

    @Test("goes on across 4 GiB")
    func wrap() {
        var credit = HostboundCredit(allocation: 0x8000_0000)
        for _ in 0..<5 {
            check(true, credit.receive(0x7fff_ffff))
            credit.forward(0x7fff_ffff)
        }
        #expect(credit.held == 0)
        #expect(credit.forwarded == UInt32(truncatingIfNeeded: 5 * 0x7fff_ffff))
    }

    @Test("is renewed at half of the smaller window, whichever side has it")
    func threshold() {
        var credit = HostboundCredit(allocation: 1 << 20)
        check(true, credit.receive(60))
        credit.forward(49)
        #expect(!credit.updateIsDue(guestAllocation: 100))
        credit.forward(1)
        #expect(credit.updateIsDue(guestAllocation: 100))
        credit.report()
        #expect(!credit.updateIsDue(guestAllocation: 100))
    }

    @Test("is renewed at once when the guest sees none")
    func exhausted() {
        var credit = HostboundCredit(allocation: 100)
        check(true, credit.receive(100))
        #expect(!credit.updateIsDue(guestAllocation: 1000), "there is no news")
        credit.forward(1)
        #expect(credit.updateIsDue(guestAllocation: 1000))
    }

    @Test("is granted in advance once, until the host has taken as much")
    func advance() {
        var credit = HostboundCredit(allocation: 100)
        check(true, credit.receive(100))
        check(true, credit.advance(guestAllocation: 1000))
        #expect(credit.forwardCount == 100)
        #expect(credit.held == 100)
        credit.report()
        check(true, credit.receive(60))
        check(false, credit.advance(guestAllocation: 1000))
        credit.forward(40)
        #expect(credit.forwardCount == 100, "the advance is being made good")
        #expect(!credit.updateIsDue(guestAllocation: 1000))
        check(false, credit.receive(41))
        check(true, credit.receive(40))
        #expect(credit.held == 160)
        credit.forward(60)
        #expect(credit.forwardCount == 100)
        credit.forward(50)
        #expect(credit.forwardCount == 150)
        #expect(credit.updateIsDue(guestAllocation: 1000))
    }

    @Test("is not granted in advance for less than half of the smaller window")
    func smallAdvance() {
        var credit = HostboundCredit(allocation: 100)
        check(false, credit.advance(guestAllocation: 1000))
        check(true, credit.receive(49))
        check(false, credit.advance(guestAllocation: 1000))
        #expect(credit.forwardCount == 0)
        check(true, credit.receive(1))
        check(true, credit.advance(guestAllocation: 1000))
    }
}

@Suite("Credit from the guest")
struct GuestboundCreditTests {
    @Test("is what is granted less what is under way")
    func available() {
        var credit = GuestboundCredit()
        #expect(credit.available == 0)
        check(true, credit.update(allocation: 10_000, forwardCount: 0))
        credit.send(4000, fillsBuffer: false)
        #expect(credit.available == 6000)
        check(true, credit.update(allocation: 10_000, forwardCount: 1500))
        #expect(credit.available == 7500)
    }

    @Test("is none, not 4 GiB, when the guest shrinks its buffer")
    func shrinks() {
        var credit = GuestboundCredit()
        check(true, credit.update(allocation: 10_000, forwardCount: 0))
        credit.send(4000, fillsBuffer: false)
        check(true, credit.update(allocation: 128, forwardCount: 0))
        #expect(credit.available == 0)
        check(true, credit.update(allocation: 10_000, forwardCount: 4000))
        #expect(credit.available == 10_000)
    }

    @Test("refuses the consumption of bytes that were never sent")
    func future() {
        var credit = GuestboundCredit()
        check(true, credit.update(allocation: 10_000, forwardCount: 0))
        credit.send(100, fillsBuffer: false)
        check(false, credit.update(allocation: 10_000, forwardCount: 101))
    }

    @Test("passes over a count that was overtaken on its way")
    func stale() {
        var credit = GuestboundCredit()
        check(true, credit.update(allocation: 10_000, forwardCount: 0))
        credit.send(100, fillsBuffer: false)
        check(true, credit.update(allocation: 10_000, forwardCount: 80))
        check(true, credit.update(allocation: 10_000, forwardCount: 50))
        #expect(credit.outstanding == 20)
    }

    @Test("goes on across 4 GiB, and with a grant of 4 GiB less one")
    func wrap() {
        var credit = GuestboundCredit()
        check(true, credit.update(allocation: 0xffff_ffff, forwardCount: 0))
        var sent: UInt32 = 0
        for _ in 0..<20 {
            credit.send(0x2000_0000, fillsBuffer: true)
            sent &+= 0x2000_0000
            #expect(credit.available == 0x2000_0000)
            check(true, credit.update(allocation: 0xffff_ffff, forwardCount: sent))
        }
        #expect(credit.outstanding == 0)
    }

    @Test("counts packets: one for each KiB of the guest's buffer")
    func packets() {
        var credit = GuestboundCredit()
        check(true, credit.update(allocation: 256 * 1024, forwardCount: 0))
        for count in 0..<256 {
            #expect(credit.availablePackets == 256 - count)
            credit.send(100, fillsBuffer: false)
        }
        #expect(credit.availablePackets == 0)
        #expect(credit.available > 200_000)
        check(true, credit.update(allocation: 256 * 1024, forwardCount: 12_799))
        #expect(credit.availablePackets == 0)
        check(true, credit.update(allocation: 256 * 1024, forwardCount: 12_800))
        #expect(credit.availablePackets == 128, "half of them are consumed")
        check(true, credit.update(allocation: 256 * 1024, forwardCount: 25_600))
        #expect(credit.availablePackets == 256)
    }

    @Test("does not count small packets that fill the guest's own small buffers")
    func smallBuffers() {
        var credit = GuestboundCredit()
        check(true, credit.update(allocation: 256 * 1024, forwardCount: 0))
        for _ in 0..<1000 { credit.send(64, fillsBuffer: true) }
        #expect(credit.availablePackets == 256)
    }

    @Test("always leaves room for one packet", arguments: [UInt32(1), 128, 1023, 2047])
    func tinyWindows(_ allocation: UInt32) {
        var credit = GuestboundCredit()
        check(true, credit.update(allocation: allocation, forwardCount: 0))
        #expect(credit.availablePackets == 1)
        credit.send(1, fillsBuffer: false)
        check(true, credit.update(allocation: allocation, forwardCount: 1))
        #expect(credit.availablePackets == 1)
    }
}
