// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import LinuxIO
import Sessions
import Testing
import Virtio

@testable import VhostUser

/// A front-end that a test leads by hand: memory and one ring, all but the kick and the switch.
final class HandLedGuest {
    let backEnd: BackEnd
    let frontEnd: FrontEnd
    let memory: TestMemory
    let ring: GuestRing

    init(
        _ backEnd: BackEnd, format: RingFormat = .split, kickValue: UInt32 = 0,
        features: UInt64 = 1 << 32 | 1 << 30, start: UInt32 = 0
    ) throws {
        self.backEnd = backEnd
        memory = try TestMemory(byteCount: 4 << 20)
        let options = RingOptions(size: 16, start: start, indirect: false, eventIndex: false)
        ring = try GuestRing(0, format.makeDriver(in: memory, options), kickValue: kickValue)
        frontEnd = try backEnd.connect()
        if features & 1 << 30 != 0 {
            try frontEnd.send(.setProtocolFeatures(1 << 3 | 1 << 9))
            frontEnd.protocolFeatures = 1 << 3 | 1 << 9
        }
        let packed: UInt64 = format == .packed ? 1 << 34 : 0
        try frontEnd.require(.setFeatures(features | packed))
        try frontEnd.require(.setMemoryTable(memory))
        try configure()
    }

    /// Size, base, addresses, call and error descriptors.
    func configure() throws {
        try frontEnd.require(.setRingSize(0, 16))
        try frontEnd.require(.setRingBase(0, ring.driver.configuration.base))
        try frontEnd.require(ring.addressMessage())
        try frontEnd.require(.setRingCall(0, ring.call.rawDescriptor))
        try frontEnd.require(.setRingError(0, ring.error.rawDescriptor))
    }

    func setKick() throws {
        try frontEnd.require(.setRingKick(0, ring.kick.rawDescriptor))
        try backEnd.turn()
    }

    func enable(_ isEnabled: Bool = true) throws {
        try frontEnd.require(.setRingEnable(0, isEnabled))
        try backEnd.turn()
    }

    func offer(_ bytes: [UInt8]) throws {
        ring.driver.offer(readable: [bytes], writable: [bytes.count])
        try backEnd.turn()
    }

    func echoes() throws -> [[UInt8]] {
        try ring.driver.reapAll().map { ring.driver.writtenBytes(of: $0) }
    }
}

@Suite("A ring of a session", .everyPlacement)
struct RingStateTests {
    @Test("is enabled by SET_FEATURES without bit 30, and has no other switch")
    func withoutProtocolFeatures() throws {
        let guest = try HandLedGuest(try BackEnd(), features: 1 << 32)
        try guest.setKick()
        try guest.offer([1, 2])
        #expect(try guest.echoes() == [[1, 2]])
        try guest.frontEnd.send(.setRingEnable(0, false))
        try guest.offer([3])
        #expect(try guest.echoes() == [[3]])
    }

    @Test("stays disabled with bit 30 until it is enabled")
    func disabledAtFirst() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.offer([1])
        #expect(try guest.echoes() == [])
        try guest.enable()
        #expect(try guest.echoes() == [[1]])
    }

    @Test("can be enabled before anything else is known of it")
    func enabledFirst() throws {
        let backEnd = try BackEnd()
        let frontEnd = try backEnd.connect()
        try frontEnd.send(.setProtocolFeatures(1 << 3))
        frontEnd.protocolFeatures = 1 << 3
        for index in 0..<3 { try frontEnd.require(.setRingEnable(index, true)) }
        #expect(backEnd.device.takeEvents() == [])
    }

    @Test("does nothing before its first kick (vhost-user, \"Ring states\")")
    func strictStart() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        _ = guest.ring.driver.add(
            Chain(
                readable: [guest.memory.segment([9])],
                writable: [guest.memory.segment(byteCount: 1)]), tag: 0)
        _ = guest.ring.driver.publish()
        try guest.backEnd.turn()
        #expect(try guest.echoes() == [])
        guest.ring.kick.raise()
        try guest.backEnd.turn()
        #expect(try guest.echoes() == [[9]])
    }

    @Test("starts at once with a kick descriptor that was written to before")
    func kickedBefore() throws {
        let guest = try HandLedGuest(try BackEnd(), kickValue: 1)
        try guest.enable()
        #expect(guest.backEnd.device.takeEvents() == [])
        try guest.setKick()
        #expect(guest.backEnd.device.takeEvents() == ["features", "start 0"])
    }

    @Test("that has run before starts without a kick", arguments: RingFormat.allCases)
    func resumed(_ format: RingFormat) throws {
        let guest = try HandLedGuest(try BackEnd(), format: format, start: 5)
        try guest.setKick()
        try guest.enable()
        #expect(guest.backEnd.device.takeEvents() == ["features", "start 0"])
        // And the signal that its driver may have missed is made up for.
        #expect(guest.ring.call.take() == 1)
    }

    @Test("waits for a kick even so if that is chosen")
    func notResumed() throws {
        let options = VhostUserOptions(name: "echo", resumesWithoutKick: false)
        let guest = try HandLedGuest(try BackEnd(options: options), start: 5)
        try guest.setKick()
        try guest.enable()
        #expect(guest.backEnd.device.takeEvents() == [])
    }

    @Test("loses no kick that comes while it is disabled", arguments: RingFormat.allCases)
    func kickWhileDisabled(_ format: RingFormat) throws {
        let guest = try HandLedGuest(try BackEnd(), format: format)
        try guest.setKick()
        try guest.enable()
        try guest.offer([1])
        try guest.enable(false)
        try guest.offer([2])
        #expect(try guest.echoes() == [[1]])
        try guest.enable()
        #expect(try guest.echoes() == [[2]])
    }

    @Test("is not touched any more once its disabling was acknowledged")
    func quiet() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        guest.backEnd.device.holds = true
        try guest.offer([1])
        try guest.frontEnd.send(.setRingEnable(0, false), flags: 0x9)
        try guest.backEnd.turn()
        #expect(try guest.frontEnd.readReply(within: .zero) == nil)
        guest.backEnd.device.complete()
        #expect(try guest.frontEnd.readReply(to: 18).integer == 0)
        #expect(try guest.echoes() == [[1]])
        try guest.offer([2])
        try guest.backEnd.advance(by: .seconds(5))
        #expect(guest.backEnd.device.heldCount == 0)
        #expect(try guest.echoes() == [])
    }

    @Test("cannot be set up anew while it runs, except for how it is logged")
    func changesWhileRunning() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        try guest.offer([1])
        let frontEnd = guest.frontEnd
        #expect(try frontEnd.acknowledgement(of: .setRingSize(0, 16)) != 0)
        #expect(try frontEnd.acknowledgement(of: .setRingBase(0, 1)) != 0)
        #expect(try frontEnd.acknowledgement(of: guest.ring.addressMessage()) == 0)
        #expect(try frontEnd.acknowledgement(of: guest.ring.addressMessage(flags: 1)) == 0)
        let other = FrontEndMessage.setRingAddresses(
            0, descriptors: guest.memory.regions[0].frontEndAddress, used: 0, available: 0)
        #expect(try frontEnd.acknowledgement(of: other) != 0)
        try guest.offer([2])
        #expect(try guest.echoes() == [[1], [2]])
    }

    @Test("keeps its features while it runs")
    func featuresWhileRunning() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        try guest.offer([1])
        #expect(
            try guest.frontEnd.acknowledgement(of: .setFeatures(1 << 34 | 1 << 32 | 1 << 30)) != 0)
        #expect(try guest.frontEnd.acknowledgement(of: .setFeatures(1 << 32 | 1 << 30)) == 0)
    }

    @Test("forgets its kick and call descriptors with GET_VRING_BASE, not its switch or its place")
    func stopped() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        try guest.offer([1])
        let reply = try guest.frontEnd.ask(.getRingBase(0))
        #expect(reply.payload == [0, 0, 0, 0, 1, 0, 0, 0])
        _ = guest.ring.call.take()
        try guest.offer([2])
        #expect(try guest.echoes() == [[1]])
        // Still enabled, its place and size still known.
        try guest.setKick()
        #expect(try guest.echoes() == [[2]])
        #expect(guest.ring.call.take() == 0)
    }

    @Test("says where it stopped as often as it is asked")
    func askedAgain() throws {
        let guest = try HandLedGuest(try BackEnd())
        #expect(try guest.frontEnd.ask(.getRingBase(1)).payload == [1, 0, 0, 0, 0, 0, 0, 0])
        try guest.frontEnd.require(.setRingBase(1, 77))
        for _ in 0..<3 {
            #expect(try guest.frontEnd.ask(.getRingBase(1)).payload == [1, 0, 0, 0, 77, 0, 0, 0])
        }
    }

    @Test("goes on from every place near the end of its index", arguments: 65530...65535)
    func splitIndexWrap(_ start: Int) throws {
        let guest = try HandLedGuest(try BackEnd(), start: UInt32(start))
        try guest.setKick()
        try guest.enable()
        for value in 0..<12 as Range<UInt8> {
            try guest.offer([value])
            #expect(try guest.echoes() == [[value]])
        }
        let base: UInt32 = FrontEndMessage.integer(
            try guest.frontEnd.ask(.getRingBase(0)).payload[4...])
        #expect(base == UInt32(start + 12) & 0xffff)
    }

    @Test("takes a split base with junk above its 16 bits")
    func junkAboveBase() throws {
        let guest = try HandLedGuest(try BackEnd(), start: 5)
        try guest.frontEnd.require(.setRingBase(0, 0xabcd_0005))
        try guest.setKick()
        try guest.enable()
        try guest.offer([1])
        #expect(try guest.echoes() == [[1]])
        #expect(try guest.frontEnd.ask(.getRingBase(0)).payload == [0, 0, 0, 0, 6, 0, 0, 0])
    }

    @Test("takes a packed base of 16 bits, and gives back all 32")
    func packedBase() throws {
        let guest = try HandLedGuest(try BackEnd(), format: .packed)
        try guest.frontEnd.require(.setRingBase(0, 0x8000))
        try guest.setKick()
        try guest.enable()
        try guest.offer([1])
        #expect(try guest.echoes() == [[1]])
        // A buffer of two descriptors: both places at 2, both wrap counters 1.
        #expect(try guest.frontEnd.ask(.getRingBase(0)).payload == [0, 0, 0, 0, 2, 128, 2, 128])
    }

    @Test("toggles its wrap counters lap by lap", arguments: 0..<48)
    func packedLaps(_ buffers: Int) throws {
        let guest = try HandLedGuest(try BackEnd(), format: .packed)
        try guest.setKick()
        try guest.enable()
        for value in 0..<buffers {
            try guest.offer([UInt8(value)])
            #expect(try guest.echoes() == [[UInt8(value)]])
        }
        let half = UInt32(2 * buffers % 16) | (2 * buffers / 16 % 2 == 0 ? 0x8000 : 0)
        let base: UInt32 = FrontEndMessage.integer(
            try guest.frontEnd.ask(.getRingBase(0)).payload[4...])
        #expect(base == half << 16 | half)
    }
}

@Suite("The descriptors of a ring", .everyPlacement)
struct RingDescriptorTests {
    @Test("are an eventfd for kicks, which is never read")
    func kickIsNotRead() throws {
        let guest = try HandLedGuest(try BackEnd(), kickValue: 1)
        try guest.setKick()
        try guest.enable()
        for value in 0..<8 as Range<UInt8> { try guest.offer([value]) }
        #expect(try guest.echoes().count == 8)
        #expect(guest.ring.kick.take() == 9)
    }

    @Test("may be a pipe for kicks, which is read")
    func kickPipe() throws {
        let guest = try HandLedGuest(try BackEnd())
        let pipe = try Pipe()
        try guest.frontEnd.require(.setRingKick(0, pipe.readingEnd.rawValue))
        try guest.enable()
        let writer = EventCounter(taking: try pipe.writingEnd.duplicate())
        guest.ring.driver.onKick = nil
        for value in 0..<100 {
            try guest.offer([UInt8(value)])
            writer.signal()
            try guest.backEnd.turn()
            #expect(try guest.echoes() == [[UInt8(value)]])
        }
        #expect(pipe.take() == [])
    }

    @Test("cannot be a file for kicks")
    func kickFile() throws {
        let guest = try HandLedGuest(try BackEnd())
        let message = FrontEndMessage.setRingKick(0, guest.memory.rawDescriptor(ofRegion: 0))
        #expect(try guest.frontEnd.acknowledgement(of: message) != 0)
    }

    @Test("may be missing for kicks: then the ring is polled", arguments: RingFormat.allCases)
    func polled(_ format: RingFormat) throws {
        let guest = try HandLedGuest(try BackEnd(), format: format)
        guest.ring.driver.onKick = nil
        try guest.enable()
        try guest.frontEnd.require(.setRingKick(0, nil))
        var seen = 0
        for round in 0..<1000 {
            for _ in 0..<4 { try guest.offer([UInt8(truncatingIfNeeded: round)]) }
            try guest.backEnd.advance(by: .milliseconds(1))
            seen += try guest.echoes().count
        }
        #expect(seen == 4000)
        #expect(guest.ring.driver.notificationsAreSuppressed)
        // When there is nothing, it looks once a millisecond.
        try guest.backEnd.advance(by: .milliseconds(1))
        _ = try guest.frontEnd.ask(.getRingBase(0))
    }

    @Test("may be missing for calls: then nobody is signalled")
    func noCall() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.frontEnd.require(.setRingCall(0, nil))
        try guest.setKick()
        try guest.enable()
        for value in 0..<100 {
            try guest.offer([UInt8(value)])
            #expect(try guest.echoes() == [[UInt8(value)]])
        }
        #expect(guest.ring.call.take() == 0)
    }

    @Test("are swapped under load without losing the last signal")
    func callSwap() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        let other = try Signal()
        for round in 0..<500 {
            guest.ring.driver.requestSignals()
            _ = guest.ring.call.take()
            _ = other.take()
            guest.ring.driver.offer(readable: [[1]], writable: [1])
            let target = round % 2 == 0 ? other : guest.ring.call
            try guest.frontEnd.require(.setRingCall(0, target.rawDescriptor))
            try guest.backEnd.turn()
            #expect(try guest.echoes().count == 1)
            // Whichever came first, the request or the message: the new one knows.
            #expect(target.take() > 0)
        }
    }

    @Test("signal nothing when a call descriptor comes for a stopped ring")
    func callOfStoppedRing() throws {
        let guest = try HandLedGuest(try BackEnd())
        try guest.setKick()
        try guest.enable()
        try guest.offer([1])
        _ = try guest.frontEnd.ask(.getRingBase(0))
        let call = try Signal()
        try guest.frontEnd.require(.setRingCall(0, call.rawDescriptor))
        try guest.backEnd.turn()
        #expect(call.take() == 0)
    }
}
