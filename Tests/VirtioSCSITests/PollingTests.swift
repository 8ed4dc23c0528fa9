// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioSCSI

@Suite("A SCSI device on a loop that polls")
struct PollingTests {
    private static let testUnitReady = SCSIGuest.header([0, 0, 0, 0, 0, 0])

    /// Puts a TEST UNIT READY into a ring without notifying the device.
    ///
    /// - Returns: whether the device wants to be notified.
    private func add(_ guest: SCSIGuest, queue: Int = 2) -> Bool {
        let chain = Chain(
            readable: [guest.memory.segment(Self.testUnitReady)],
            writable: [guest.memory.segment(byteCount: 108, filledWith: 0xEE)])
        _ = guest.rings[queue].add(chain, tag: 0)
        return guest.rings[queue].publish()
    }

    private func guest(_ format: RingFormat, requestQueues: Int = 1) throws -> SCSIGuest {
        try SCSIGuest(format, requestQueues: requestQueues, pollLimit: .microseconds(50))
    }

    /// A turn in which there is nothing to do: the loop has gone to sleep.
    private func sleep(_ guest: SCSIGuest) throws {
        try guest.loop.turn(waitingAtMost: .milliseconds(1))
    }

    @Test("serves requests of which it was not notified", arguments: RingFormat.allCases)
    func unnotified(format: RingFormat) throws {
        let guest = try guest(format)
        try sleep(guest)
        #expect(add(guest))
        guest.device.driverNotified(queueAt: 2)
        try guest.turn()
        #expect(try guest.reap().count == 1)
        for _ in 0..<40 {
            #expect(!add(guest))
            for _ in 0..<2 { try guest.turn() }
            #expect(try guest.reap().map(\.status) == [0])
        }
    }

    @Test("sleeps while it is drained, whatever is in its rings", arguments: RingFormat.allCases)
    func draining(format: RingFormat) throws {
        let guest = try guest(format)
        try sleep(guest)
        #expect(add(guest))
        guest.device.driverNotified(queueAt: 2)
        try guest.turn()
        #expect(try guest.reap().count == 1)
        guest.device.isDraining = true
        #expect(!add(guest))
        for _ in 0..<3 { try sleep(guest) }
        #expect(guest.device.watchedQueues.isEmpty)
        #expect(try guest.reap().isEmpty)
        guest.device.isDraining = false
        for _ in 0..<3 { try guest.turn() }
        #expect(try guest.reap().count == 1)
    }

    @Test("wants to be notified again when the loop sleeps", arguments: RingFormat.allCases)
    func sleeping(format: RingFormat) throws {
        let guest = try guest(format)
        for _ in 0..<3 {
            try sleep(guest)
            #expect(add(guest))
            guest.device.driverNotified(queueAt: 2)
            try guest.turn()
            #expect(try guest.reap().count == 1)
            #expect(!add(guest))
            try guest.turn()
            #expect(try guest.reap().count == 1)
        }
    }

    @Test(
        "does not sleep over a request that comes while it asks to be notified",
        arguments: RingFormat.allCases)
    func lastMoment(format: RingFormat) throws {
        let guest = try guest(format)
        _ = add(guest)
        guest.device.driverNotified(queueAt: 2)
        try guest.turn()
        #expect(try guest.reap().count == 1)
        // The device has looked when this one is asked to.
        let late = Bystander(looking: { #expect(!add(guest)) })
        guest.loop.add(late)
        try guest.loop.turn(waitingAtMost: .seconds(60))
        #expect(try guest.reap().count == 1)
        guest.loop.remove(late)
    }

    @Test("leaves a queue alone that was stopped while it was watched")
    func stopped() throws {
        let guest = try guest(.split, requestQueues: 2)
        for queue in 2...3 {
            _ = add(guest, queue: queue)
            guest.device.driverNotified(queueAt: queue)
        }
        try guest.turn()
        #expect(try guest.reap(queue: 2).count == 1)
        #expect(try guest.reap(queue: 3).count == 1)
        guest.device.stopQueue(at: 2)
        for queue in 2...3 { _ = add(guest, queue: queue) }
        for _ in 0..<3 { try guest.turn() }
        #expect(try guest.reap(queue: 2).isEmpty)
        #expect(try guest.reap(queue: 3).count == 1)
        try sleep(guest)
    }

    @Test("goes to sleep though a queue that it watches is broken")
    func broken() throws {
        let guest = try guest(.split)
        _ = add(guest)
        guest.device.driverNotified(queueAt: 2)
        try guest.turn()
        // No room for a response.
        let chain = Chain(readable: [guest.memory.segment(Self.testUnitReady)])
        _ = guest.rings[2].add(chain, tag: 0)
        _ = guest.rings[2].publish()
        try guest.turn()
        _ = add(guest)
        let bystander = Bystander(looking: {})
        guest.loop.add(bystander)
        try sleep(guest)
        #expect(bystander.hasSlept)
        guest.loop.remove(bystander)
    }

    @Test("answers every request where only one may be under way at a time")
    func oneCommand() throws {
        let guest = try SCSIGuest(commandLimit: 1, pollLimit: .microseconds(50))
        for _ in 0..<5 { _ = add(guest) }
        guest.device.driverNotified(queueAt: 2)
        for _ in 0..<10 { try guest.turn() }
        #expect(try guest.reap().count == 5)
        try sleep(guest)
        #expect(add(guest))
    }
}

/// Does something once when the loop looks, and notes whether it goes to sleep.
private final class Bystander: Pollable {
    private var looking: (() -> Void)?
    private(set) var hasSlept = false
    let awaitsCompletions = false

    init(looking: @escaping () -> Void) {
        self.looking = looking
    }

    func poll() -> Bool {
        looking?()
        looking = nil
        return false
    }

    func prepareToSleep() -> Bool {
        hasSlept = true
        return false
    }
}
