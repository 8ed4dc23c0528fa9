// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import LinuxIO
import Sessions
import Testing
import Virtio

@testable import VhostUser

/// A guest with two running rings in one region, whose buffers lie in another.
private final class LoggedGuest {
    static let data: UInt64 = 0x400_0000
    let guest: Guest
    let log: DirtyLogFile
    private var before: [[UInt8]]

    init(_ format: RingFormat, _ backEnd: BackEnd, _ vmm: (any VMM)? = nil) throws {
        let memory = try TestMemory([
            .init(at: 0x10_0000, byteCount: 1 << 20), .init(at: Self.data, byteCount: 1 << 20),
        ])
        guest = try Guest(
            backEnd, vmm, format: format, options: RingOptions(size: 16), memory: memory)
        log = try DirtyLogFile(for: memory)
        before = []
        try guest.start()
    }

    var frontEnd: FrontEnd { guest.frontEnd }
    var device: EchoDevice { guest.backEnd.device }

    func begin() throws { try frontEnd.beginLogging(to: log, guest.rings) }

    /// Offers a buffer whose writable part begins at a byte of the second region; the device does
    /// not know yet.
    func add(_ byteCount: Int, at offset: UInt64, ring: Int = 0) {
        let chain = Chain(
            readable: [guest.memory.segment([UInt8](repeating: 7, count: byteCount))],
            writable: [Segment(at: Self.data + offset, byteCount: byteCount)])
        _ = guest.rings[ring].driver.add(chain, tag: 0)
    }

    /// Lets the device see what was offered.
    func kick() throws {
        before = guest.memory.snapshot()
        for ring in guest.rings { ring.driver.kick() }
        try guest.backEnd.turn()
    }

    /// Pages that the device has changed since `kick`.
    var changed: Set<UInt64> { guest.memory.pagesChanged(since: before) }

    func reap() throws {
        for ring in guest.rings {
            for buffer in try ring.driver.reapAll() {
                guest.memory.free(buffer.chain.readable[0].address)
            }
        }
    }
}

extension Set<UInt64> {
    /// Pages of the buffers, not of the rings.
    fileprivate var ofData: Set<UInt64> { filter { $0 >= LoggedGuest.data / 4096 } }
}

@Suite("The dirty log of a session", .everyPlacement)
struct LogTests {
    @Test("holds the pages that the device changed, and no other", arguments: RingFormat.allCases)
    func exact(_ format: RingFormat) throws {
        let logged = try LoggedGuest(format, try BackEnd())
        try logged.begin()
        var generator = SeededGenerator(seed: 26)
        for _ in 0..<60 {
            for ring in 0...1 {
                for _ in 0...generator.below(3) {
                    let byteCount = 1 + generator.below(9000)
                    logged.add(
                        byteCount, at: UInt64(generator.below((1 << 20) - byteCount)), ring: ring)
                }
            }
            logged.guest.memory.fill(0, at: LoggedGuest.data, count: 1 << 20)
            try logged.kick()
            let pages = logged.log.take()
            #expect(pages.ofData == logged.changed.ofData)
            // An event field may be written with what it held.
            #expect(pages.isSuperset(of: logged.changed))
            #expect(pages.subtracting(logged.changed).count <= 2)
            try logged.reap()
        }
        #expect(logged.log.canariesAreIntact)
    }

    @Test("can be switched off and on again while rings run", arguments: RingFormat.allCases)
    func switched(_ format: RingFormat) throws {
        let logged = try LoggedGuest(format, try BackEnd())
        for round in 0..<3 {
            try logged.begin()
            _ = logged.log.take()
            logged.add(1, at: UInt64(round) * 4096)
            try logged.kick()
            #expect(logged.log.take().ofData == [0x4000 + UInt64(round)])
            try logged.frontEnd.endLogging(logged.guest.rings)
            logged.add(1, at: 0x8000)
            try logged.kick()
            #expect(logged.log.pages.isEmpty)
            try logged.reap()
        }
        #expect(logged.device.takeEvents().filter { $0 == "features" } == ["features"])
    }

    @Test("is kept once both came, the feature and the bitmap", arguments: RingFormat.allCases)
    func featureFirst(_ format: RingFormat) throws {
        let logged = try LoggedGuest(format, try BackEnd())
        logged.frontEnd.features |= 1 << 26
        try logged.frontEnd.require(.setFeatures(logged.frontEnd.features))
        logged.add(1, at: 0)
        try logged.kick()
        #expect(logged.log.pages.isEmpty)
        try logged.frontEnd.setLog(logged.log)
        logged.add(1, at: 4096)
        try logged.kick()
        // Used rings are not asked for.
        #expect(logged.log.take() == [0x4001])
        try logged.guest.stop()
        try logged.guest.start()
        logged.add(1, at: 8192)
        try logged.kick()
        #expect(logged.log.take() == [])
    }

    @Test(
        "begins when nothing is in flight, so that nothing escapes",
        arguments: RingFormat.allCases)
    func waits(_ format: RingFormat) throws {
        let logged = try LoggedGuest(format, try BackEnd())
        try logged.frontEnd.setLog(logged.log)
        logged.device.holds = true
        logged.add(1, at: 0)
        try logged.kick()
        try logged.frontEnd.send(
            .setFeatures(logged.frontEnd.features | 1 << 26), flags: FrontEnd.needReplyFlags)
        #expect(try logged.frontEnd.readReply(within: .milliseconds(20)) == nil)
        logged.device.complete()
        #expect(try logged.frontEnd.readReply(to: 2).integer == 0)
        #expect(logged.changed.contains(0x4000))
        // The ring goes on where it was.
        logged.device.holds = false
        logged.add(1, at: 4096)
        try logged.kick()
        #expect(logged.log.pages.ofData == [0x4001])
        #expect(try logged.guest.echoes().count == 2)
    }

    @Test("is refused if what is in flight cannot be waited for")
    func abandoned() throws {
        let logged = try LoggedGuest(.split, try BackEnd())
        try logged.frontEnd.setLog(logged.log)
        logged.device.holds = true
        logged.device.obeysExpedite = false
        logged.add(1, at: 0)
        try logged.kick()
        try logged.frontEnd.send(
            .setFeatures(logged.frontEnd.features | 1 << 26), flags: FrontEnd.needReplyFlags)
        try logged.guest.backEnd.turn()
        try logged.guest.backEnd.advance(by: .seconds(20))
        #expect(try logged.frontEnd.readReply(to: 2).integer != 0)
        logged.device.complete()
        try logged.guest.backEnd.turn()
        try logged.begin()
        logged.device.holds = false
        logged.add(1, at: 4096)
        try logged.kick()
        #expect(logged.log.pages.ofData == [0x4001])
    }

    @Test(
        "can be exchanged while buffers are in flight: nothing is lost between the two",
        arguments: RingFormat.allCases)
    func exchanged(_ format: RingFormat) throws {
        let logged = try LoggedGuest(format, try BackEnd(), try CloudHypervisor())
        try logged.begin()
        logged.device.holds = true
        logged.guest.memory.fill(0, at: LoggedGuest.data, count: 1 << 20)
        for page in 0..<8 { logged.add(4096, at: UInt64(page) * 8192) }
        try logged.kick()
        var found: Set<UInt64> = []
        var old = logged.log
        for round in 0..<4 {
            let next = try DirtyLogFile(for: logged.guest.memory, offset: UInt64(round) * 4096)
            try logged.frontEnd.setLog(next)
            // Cloud Hypervisor reads the old one now.
            let harvest = old.take()
            found.formUnion(harvest)
            logged.device.completeNewest(2)
            #expect(old.pages.isEmpty, "the old log is left alone")
            #expect(next.pages.ofData.count == 2)
            old = next
        }
        found.formUnion(old.take())
        #expect(found.ofData == logged.changed.ofData)
        #expect(found.ofData.count == 8)
        #expect(found.isSuperset(of: logged.changed))
    }

    @Test("is shared by several devices")
    func shared() throws {
        let first = try LoggedGuest(.split, try BackEnd())
        let second = try LoggedGuest(.packed, try BackEnd())
        try first.begin()
        try second.frontEnd.beginLogging(to: first.log, second.guest.rings)
        for page in 0..<16 { (page % 2 == 0 ? first : second).add(1, at: UInt64(page) * 4096) }
        try first.kick()
        try second.kick()
        #expect(first.log.pages.ofData == Set(0x4000..<0x4010))
    }

    @Test("starts anywhere in its file", arguments: [0, 1, 4095, 4096, 5000, 1 << 20] as [UInt64])
    func offset(_ offset: UInt64) throws {
        let logged = try LoggedGuest(.split, try BackEnd())
        let log = try DirtyLogFile(for: logged.guest.memory, offset: offset)
        try logged.frontEnd.beginLogging(to: log, logged.guest.rings)
        logged.add(1, at: (1 << 20) - 1)
        try logged.kick()
        #expect(log.pages.ofData == [0x40FF])
        #expect(log.canariesAreIntact)
    }

    @Test("is refused if it is too short for the memory; the session goes on")
    func tooShort() throws {
        let logged = try LoggedGuest(.split, try BackEnd())
        let short = try DirtyLogFile(byteCount: logged.log.byteCount - 1)
        try logged.frontEnd.setLog(short)
        let features = logged.frontEnd.features | 1 << 26
        #expect(try logged.frontEnd.acknowledgement(of: .setFeatures(features)) != 0)
        logged.add(4096, at: (1 << 20) - 4096)
        try logged.kick()
        #expect(short.pages.isEmpty && short.canariesAreIntact)
        try logged.begin()
        logged.add(4096, at: (1 << 20) - 4096)
        try logged.kick()
        #expect(logged.log.pages.ofData == [0x40FF])
        // One that takes its place cannot be refused otherwise: the reply has no place for it.
        try logged.frontEnd.send(short.message)
        #expect(try logged.frontEnd.isClosed())
        #expect(short.canariesAreIntact)
    }

    @Test("keeps memory out that it has no place for")
    func memoryBeyond() throws {
        let logged = try LoggedGuest(.split, try BackEnd())
        try logged.begin()
        let more = try TestMemory(byteCount: 1 << 20, at: 0x500_0000)
        #expect(try logged.frontEnd.acknowledgement(of: .addMemoryRegion(more, 0)) != 0)
        #expect(try logged.frontEnd.acknowledgement(of: .setMemoryTable(more)) != 0)
        try logged.frontEnd.setLog(try DirtyLogFile(for: more))
        #expect(try logged.frontEnd.acknowledgement(of: .addMemoryRegion(more, 0)) == 0)
    }

    @Test("goes on over another memory table")
    func otherTable() throws {
        let logged = try LoggedGuest(.split, try BackEnd())
        try logged.begin()
        try logged.frontEnd.require(.setMemoryTable(logged.guest.memory))
        logged.add(1, at: 4096)
        try logged.kick()
        #expect(logged.log.pages.ofData == [0x4001])
    }

    @Test("stays over RESET_DEVICE, and is kept again when the feature is chosen again")
    func reset() throws {
        let logged = try LoggedGuest(.split, try BackEnd())
        try logged.begin()
        try logged.frontEnd.require(.resetDevice)
        _ = logged.log.take()
        for ring in logged.guest.rings {
            ring.driver.reset(start: 0)
            ring.base = 0
        }
        try logged.guest.start()
        logged.add(1, at: 0)
        try logged.kick()
        #expect(logged.log.pages.isEmpty)
        try logged.frontEnd.require(.setFeatures(logged.frontEnd.features | 1 << 26))
        logged.add(1, at: 4096)
        try logged.kick()
        #expect(logged.log.pages == [0x4001])
    }

    @Test(
        "ends the session if it cannot be mapped",
        arguments: [
            (0, 0), (1, 1 << 20), (1 << 21, 0), (.max, 0), (.max, 4096), (4096, .max),
            (1 << 63, 0), (1 << 62, 1 << 62),
        ] as [(UInt64, UInt64)])
    func malformed(_ byteCount: UInt64, _ offset: UInt64) throws {
        let logged = try LoggedGuest(.split, try BackEnd())
        let file = try OwnedDescriptor.memoryFile(name: "log", byteCount: 1 << 20)
        try logged.frontEnd.send(
            .setLogBase(byteCount: byteCount, offset: offset, descriptor: file.rawValue))
        #expect(try logged.frontEnd.isClosed())
    }

    @Test("ends the session if it is no file, or none comes")
    func noFile() throws {
        let pipe = try LoggedGuest(.split, try BackEnd())
        try pipe.frontEnd.send(
            .setLogBase(
                byteCount: 4096, offset: 0, descriptor: pipe.guest.rings[0].kick.rawDescriptor))
        #expect(try pipe.frontEnd.isClosed())
        let none = try LoggedGuest(.split, try BackEnd())
        try none.frontEnd.send(FrontEndMessage(6, payload: [UInt8](repeating: 1, count: 16)))
        #expect(try none.frontEnd.isClosed())
    }

    @Test("tells a guest that stops because it migrates from one that pauses")
    func stops() throws {
        let logged = try LoggedGuest(.split, try BackEnd())
        var moments: [String] = []
        logged.guest.backEnd.server.guestStarts = { moments.append("starts") }
        logged.guest.backEnd.server.guestStopped = { moments.append("stopped") }
        try logged.guest.stop()
        try logged.guest.start()
        #expect(moments == ["starts"])
        try logged.begin()
        moments = []
        try logged.frontEnd.require(.setRingEnable(0, false))
        #expect(moments == [])
        logged.device.holds = true
        logged.add(1, at: 0, ring: 1)
        try logged.kick()
        try logged.frontEnd.send(.setRingEnable(1, false), flags: FrontEnd.needReplyFlags)
        #expect(try logged.frontEnd.readReply(within: .milliseconds(20)) == nil)
        #expect(moments == [])
        logged.device.complete()
        #expect(try logged.frontEnd.readReply(to: 18).integer == 0)
        #expect(moments == ["stopped"])
        // It came to nothing.
        try logged.frontEnd.require(.setRingEnable(0, true))
        #expect(moments == ["stopped", "starts"])
    }

    @Test("needs LOG_SHMFD")
    func gate() throws {
        let guest = try HandLedGuest(try BackEnd())
        let log = try DirtyLogFile(for: guest.memory)
        try guest.frontEnd.send(log.message)
        #expect(try guest.frontEnd.isClosed())
    }
}
