// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Glibc
import LinuxIO
import Sessions
import Testing

@testable import VhostUser

@Suite("A server", .everyPlacement)
struct ServerTests {
    @Test("turns a second front-end away, and serves the first on")
    func secondFrontEnd() throws {
        let guest = try Guest(try BackEnd())
        try guest.start()
        for _ in 0..<3 {
            let second = try guest.backEnd.connect()
            #expect(try second.isClosed())
        }
        #expect(guest.backEnd.log.lines(saying: "second front-end").count == 3)
        #expect(try guest.echo([1]) == [[1]])
    }

    @Test("serves a front-end that comes in the moment in which the last one goes")
    func quickSuccession() throws {
        let backEnd = try BackEnd()
        for _ in 0..<50 {
            let first = try FrontEnd(path: backEnd.path)
            try backEnd.turn()
            // Both are known to the loop in one turn, the newcomer perhaps first.
            let second = try FrontEnd(path: backEnd.path)
            first.disconnect()
            let loop = backEnd.loop
            second.pump = { try loop.turn(waitingAtMost: .milliseconds(1)) }
            #expect(try second.ask(.getFeatures).payload.count == 8)
            second.disconnect()
            try backEnd.turn()
        }
    }

    @Test("gives the next front-end a device without a past", arguments: RingFormat.allCases)
    func freshSession(_ format: RingFormat) throws {
        let backEnd = try BackEnd()
        for round in 0..<20 {
            let guest = try Guest(backEnd, format: format)
            _ = backEnd.device.takeEvents()
            try guest.start()
            #expect(try guest.echo([UInt8(round)]) == [[UInt8(round)]])
            backEnd.device.holds = true
            try guest.offer([7])
            guest.frontEnd.disconnect()
            try backEnd.turn()
            backEnd.device.holds = false
            #expect(backEnd.device.takeEvents().last == "reset")
            #expect(guest.memory.canariesAreIntact)
        }
    }

    @Test("lets the next front-end wait until the last one's requests are done")
    func clearing() throws {
        let backEnd = try BackEnd()
        let guest = try Guest(backEnd)
        try guest.start()
        backEnd.device.holds = true
        backEnd.device.obeysExpedite = false
        try guest.offer([1])
        guest.frontEnd.disconnect()
        try backEnd.turn()
        let next = try backEnd.connect()
        try next.send(.getFeatures)
        try backEnd.turn()
        #expect(try next.readReply(within: .zero) == nil)
        backEnd.device.complete()
        #expect(try next.readReply(to: 1).payload.count == 8)
        #expect(backEnd.log.lines(saying: "second front-end").isEmpty)
    }

    @Test("serves the next front-end after ten seconds even if they are not")
    func abandoned() throws {
        let backEnd = try BackEnd()
        let guest = try Guest(backEnd)
        try guest.start()
        backEnd.device.holds = true
        backEnd.device.obeysExpedite = false
        try guest.offer([1])
        guest.frontEnd.disconnect()
        try backEnd.turn()
        let next = try backEnd.connect()
        try next.send(.getFeatures)
        try backEnd.advance(by: .seconds(10))
        #expect(try next.readReply(to: 1).payload.count == 8)
        #expect(backEnd.server.orphanCount == 1)
        // The memory of the one that went is still there for it.
        backEnd.device.complete()
        try backEnd.turn()
        #expect(backEnd.server.orphanCount == 0)
    }

    @Test("survives a front-end that goes at any message, or in the middle of one")
    func disconnects() throws {
        let backEnd = try BackEnd()
        let memory = try TestMemory(byteCount: 4 << 20)
        let signal = try Signal()
        let ring = try GuestRing(
            0, RingFormat.split.makeDriver(in: memory, RingOptions(size: 16)), kickValue: 1)
        let messages: [FrontEndMessage] = [
            .getFeatures, .getProtocolFeatures, .setProtocolFeatures(0x8201), .getQueueCount,
            .setOwner, .setRingCall(0, signal.rawDescriptor),
            .setRingError(0, signal.rawDescriptor),
            .setFeatures(ring.driver.features | 1 << 30), .addMemoryRegion(memory, 0),
            .setRingSize(0, 16), .setRingBase(0, 0), ring.addressMessage(),
            .setRingKick(0, ring.kick.rawDescriptor), .setRingEnable(0, true),
            .setRingEnable(0, false), .getRingBase(0), .getFeatures,
        ]
        ring.driver.offer(readable: [[1]], writable: [1])
        backEnd.device.holds = true
        for count in 0...messages.count {
            for cut in [nil, 1, 11, 12, 13, 19] as [Int?] {
                let frontEnd = try backEnd.connect()
                for message in messages.prefix(count) { try frontEnd.send(message) }
                if let cut, count < messages.count {
                    let bytes = messages[count].bytes(flags: 1)
                    try frontEnd.sendRaw(
                        Array(bytes.prefix(cut)), descriptors: messages[count].descriptors)
                }
                if count % 2 == 0 { try backEnd.turn() }
                frontEnd.disconnect()
                try backEnd.turn()
                backEnd.device.complete()
                try backEnd.turn()
                #expect(!backEnd.server.isServing)
                #expect(backEnd.device.heldCount == 0)
            }
        }
    }

    @Test("loses neither descriptors nor mappings to front-ends that come and go")
    func leaks() async {
        await #expect(processExitsWith: .success) {
            let backEnd = try BackEnd()
            func round(_ number: Int) throws {
                let guest = try Guest(backEnd)
                try guest.start()
                backEnd.device.holds = number % 2 == 0
                try guest.offer([1])
                guest.frontEnd.disconnect()
                try backEnd.turn()
            }
            for number in 0..<4 { try round(number) }
            let descriptors = openDescriptorCount()
            let mappings = mappingCount()
            for number in 0..<200 { try round(number) }
            // A leak shows in every round; the run-time library opens one or the other by itself.
            precondition(openDescriptorCount() <= descriptors + 8)
            precondition(mappingCount() <= mappings + 8)
        }
    }

    @Test("pauses when there is no descriptor for a connection, and does not spin")
    func noDescriptors() async {
        await #expect(processExitsWith: .success) {
            let backEnd = try BackEnd()
            let frontEnd = try FrontEnd(path: backEnd.path)
            let loop = backEnd.loop
            frontEnd.pump = { try loop.turn(waitingAtMost: .milliseconds(1)) }
            try frontEnd.send(.getFeatures)
            // The lowest number that is free becomes the limit.
            let lowest = fcntl(0, F_DUPFD_CLOEXEC, 0)
            close(lowest)
            var old = rlimit()
            // SAFETY: the structures are locals.
            unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &old)
            var limit = rlimit(rlim_cur: rlim_t(lowest), rlim_max: old.rlim_max)
            unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            for _ in 0..<100 { try backEnd.turn() }
            precondition(backEnd.log.lines(saying: "cannot accept").count == 1)
            try backEnd.advance(by: .milliseconds(101))
            precondition(backEnd.log.lines(saying: "cannot accept").count == 2)
            unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &old)
            try backEnd.advance(by: .milliseconds(101))
            let reply = try frontEnd.readReply(to: 1)
            precondition(reply.payload.count == 8)
        }
    }

    @Test("stops at once when nobody is there")
    func stopIdle() throws {
        let backEnd = try BackEnd()
        var isStopped = false
        backEnd.server.stop(deadline: .seconds(1)) { isStopped = true }
        #expect(isStopped)
        #expect(throws: (any Error).self) { _ = try FrontEnd(path: backEnd.path) }
    }

    @Test("stops when the requests in flight are done, and leaves then")
    func stopBusy() throws {
        let guest = try Guest(try BackEnd())
        try guest.start()
        guest.backEnd.device.holds = true
        try guest.offer([1])
        var isStopped = false
        guest.backEnd.server.stop(deadline: .seconds(1)) { isStopped = true }
        try guest.backEnd.turn()
        #expect(!isStopped)
        guest.backEnd.device.complete()
        try guest.backEnd.turn()
        #expect(isStopped)
        #expect(try guest.echoes() == [[1]])
        #expect(try guest.frontEnd.isClosed())
        #expect(guest.backEnd.device.takeEvents().last == "reset")
    }

    @Test("stops by its deadline whatever the device does", arguments: [false, true])
    func stopHung(_ isDraining: Bool) throws {
        let guest = try Guest(try BackEnd())
        try guest.start()
        guest.backEnd.device.holds = true
        guest.backEnd.device.obeysExpedite = false
        try guest.offer([1])
        if isDraining {
            try guest.frontEnd.send(.getRingBase(0))
            try guest.backEnd.turn()
        }
        _ = guest.backEnd.device.takeEvents()
        var isStopped = false
        guest.backEnd.server.stop(deadline: .milliseconds(800)) { isStopped = true }
        try guest.backEnd.advance(by: .milliseconds(401))
        #expect(guest.backEnd.device.takeEvents().contains("expedite 0"))
        #expect(!isStopped)
        // A front-end that leaves meanwhile changes nothing.
        guest.frontEnd.disconnect()
        try guest.backEnd.advance(by: .milliseconds(400))
        #expect(isStopped)
    }

    @Test("serves one connection that was made for it, and says when it is over")
    func connected() throws {
        let backEnd = try BackEnd()
        let pair = try UnixSocket.pair()
        let frontEnd = try FrontEnd(taking: try pair.first.duplicate())
        let device = EchoDevice(features: BackEnd.features, queueCount: 1)
        let server = try VhostUserServer(
            loop: backEnd.loop, device: device, connected: try pair.second.duplicate(),
            options: VhostUserOptions(name: "one"), logger: backEnd.log.logger)
        _ = consume pair
        var hasLeft = false
        server.frontEndLeft = { hasLeft = true }
        frontEnd.pump = { try backEnd.turn() }
        #expect(try frontEnd.ask(.getQueueCount).integer == 1)
        frontEnd.disconnect()
        try backEnd.turn()
        #expect(hasLeft)
        #expect(backEnd.log.lines.allSatisfy { $0.value("device") == "one" })
    }
}

/// Mappings of this process.
private func mappingCount() -> Int {
    // SAFETY: the path is passed as a C string for the length of the call.
    let file = unsafe open("/proc/self/maps", O_RDONLY)
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    var lines = 0
    while true {
        // SAFETY: reads no further than the array is long.
        let count = unsafe read(file, &bytes, bytes.count)
        if count <= 0 { return lines }
        lines += bytes.prefix(count).count { $0 == UInt8(ascii: "\n") }
    }
}
