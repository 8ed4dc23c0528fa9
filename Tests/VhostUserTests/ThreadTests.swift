// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import LinuxIO
import Sessions
import Testing
import VhostUser
import Virtio

@Suite("A device whose queues are served on two other threads")
struct ThreadTests {
    /// Runs a test with a back-end that is stopped in the end.
    private func withBackEnd(
        _ limits: DrainLimits = DrainLimits(), _ body: (ThreadedBackEnd) throws -> Void
    ) throws {
        let backEnd = try ThreadedBackEnd(limits)
        do {
            try body(backEnd)
        } catch {
            try backEnd.stop()
            throw error
        }
        try backEnd.stop()
    }

    @Test("echoes every buffer, in order on each ring", arguments: RingFormat.allCases)
    func echo(_ format: RingFormat) throws {
        try withBackEnd { backEnd in
            let guest = try ThreadedGuest(backEnd, format)
            try guest.start()
            var next = [0, 0]
            try guest.exchange(2000, &next)
            for number in 0..<2 {
                let thread = backEnd.threads[number]
                let count = try backEnd.ask(thread) { $0.device.completedCount }
                #expect(count == 2000)
            }
            #expect(try backEnd.ask(backEnd.owner) { $0.device.completedCount } == 0)
        }
    }

    @Test("stops and goes on under load, and loses nothing", arguments: RingFormat.allCases)
    func stopUnderLoad(_ format: RingFormat) throws {
        try withBackEnd { backEnd in
            let guest = try ThreadedGuest(backEnd, format)
            var next = [0, 0]
            for round in 0..<150 {
                try guest.start()
                guest.offer(8 * round..<8 * round + 8)
                try guest.stop()
                try guest.reap(&next)
                // What was answered is the end of it.
                for ring in guest.rings {
                    #expect(!ring.driver.hasUsed)
                }
                try guest.start()
                try eventually {
                    try guest.reap(&next)
                    return next == [8 * round + 8, 8 * round + 8]
                }
                try guest.stop()
                for ring in guest.rings {
                    #expect(ring.base == ring.driver.configuration.base)
                }
            }
        }
    }

    @Test("exchanges call descriptors under load without losing the last signal")
    func callSwap() throws {
        try withBackEnd { backEnd in
            let guest = try ThreadedGuest(backEnd, .split)
            try guest.start()
            var next = [0, 0]
            let others = try [Signal(), Signal()]
            for round in 0..<200 {
                for ring in guest.rings {
                    ring.driver.requestSignals()
                    _ = ring.call.take()
                    _ = others[ring.index].take()
                }
                guest.offer(round..<round + 1)
                let targets = guest.rings.map { round % 2 == 0 ? others[$0.index] : $0.call }
                for (index, target) in targets.enumerated() {
                    try guest.frontEnd.require(.setRingCall(index, target.rawDescriptor))
                }
                // Whichever came first, the buffer or the message: the new one knows.
                for target in targets { try eventually { target.take() > 0 } }
                try eventually {
                    try guest.reap(&next)
                    return next == [round + 1, round + 1]
                }
            }
        }
    }

    @Test("loses and gets memory under load", arguments: RingFormat.allCases)
    func memory(_ format: RingFormat) throws {
        try withBackEnd { backEnd in
            let memory = try TestMemory([
                TestMemory.Region(at: 0x10_0000, byteCount: 4 << 20),
                TestMemory.Region(at: 0x100_0000, byteCount: 4 << 20),
            ])
            let guest = try ThreadedGuest(backEnd, format, memory: memory)
            try guest.start()
            var next = [0, 0]
            for round in 0..<100 {
                guest.offer(8 * round..<8 * round + 4)
                try guest.frontEnd.require(.removeMemoryRegion(memory.regions[1]))
                guest.offer(8 * round + 4..<8 * round + 8)
                try guest.frontEnd.require(.addMemoryRegion(memory, 1))
                let end = 8 * round + 8
                try eventually {
                    try guest.reap(&next)
                    return next == [end, end]
                }
                try echoInSecondRegion(guest)
            }
            #expect(memory.canariesAreIntact)
        }
    }

    private func echoInSecondRegion(_ guest: ThreadedGuest) throws {
        let memory = guest.memory
        for ring in guest.rings {
            let source = memory.allocate(byteCount: 32, inRegion: 1)
            let target = memory.allocate(byteCount: 32, inRegion: 1)
            memory.fill(0x5a, at: source, count: 32)
            let chain = Chain(
                readable: [Segment(at: source, byteCount: 32)],
                writable: [Segment(at: target, byteCount: 32)])
            ring.driver.offer(chain)
            var bytes: [UInt8] = []
            try eventually {
                guard let buffer = try ring.driver.reap() else { return false }
                bytes = ring.driver.writtenBytes(of: buffer)
                memory.free(buffer.chain)
                return true
            }
            try #require(bytes == [UInt8](repeating: 0x5a, count: 32))
        }
    }

    @Test("is disabled and enabled under load", arguments: RingFormat.allCases)
    func switched(_ format: RingFormat) throws {
        try withBackEnd { backEnd in
            let guest = try ThreadedGuest(backEnd, format)
            try guest.start()
            var next = [0, 0]
            for round in 0..<150 {
                guest.offer(4 * round..<4 * round + 4)
                for index in 0..<2 {
                    try guest.frontEnd.require(.setRingEnable(index, false))
                    try guest.frontEnd.require(.setRingEnable(index, true))
                }
                let end = 4 * round + 4
                try eventually {
                    try guest.reap(&next)
                    return next == [end, end]
                }
            }
        }
    }

    @Test("is reset under load, and starts anew", arguments: RingFormat.allCases)
    func reset(_ format: RingFormat) throws {
        try withBackEnd { backEnd in
            let guest = try ThreadedGuest(backEnd, format)
            for _ in 0..<60 {
                try guest.start()
                guest.offer(0..<8)
                try guest.frontEnd.require(.resetDevice)
                for ring in guest.rings {
                    while try ring.driver.reap() != nil {}
                    #expect(!ring.driver.hasUsed)
                    ring.driver.reset(start: 0)
                    ring.base = ring.driver.configuration.base
                }
            }
            try guest.start()
            var next = [0, 0]
            try guest.exchange(20, &next)
        }
    }

    @Test("lets front-ends go under load", arguments: RingFormat.allCases)
    func disconnect(_ format: RingFormat) throws {
        try withBackEnd { backEnd in
            for _ in 0..<40 {
                let guest = try ThreadedGuest(backEnd, format)
                try guest.start()
                guest.offer(0..<16)
                guest.frontEnd.disconnect()
            }
            let guest = try ThreadedGuest(backEnd, format)
            try guest.start()
            var next = [0, 0]
            try guest.exchange(20, &next)
            #expect(try backEnd.ask(backEnd.owner) { $0.server.orphanCount } == 0)
        }
    }

    @Test("is not held up by a request that hangs, and keeps its memory until it ends")
    func hungRequest() throws {
        let limits = DrainLimits(expedite: .milliseconds(1), abandon: .milliseconds(2))
        try withBackEnd(limits) { backEnd in
            for thread in backEnd.threads {
                thread.post { server in
                    server.device.holds = true
                    server.device.obeysExpedite = false
                }
            }
            let guest = try ThreadedGuest(backEnd, .split)
            try guest.start()
            guest.offer(0..<2)
            for thread in backEnd.threads {
                try eventually { try backEnd.ask(thread) { $0.device.heldCount == 2 } }
            }
            try guest.stop()
            #expect(guest.rings.map(\.base) == [2, 2])
            #expect(try backEnd.ask(backEnd.owner) { $0.server.orphanCount } == 2)
            guest.frontEnd.disconnect()
            for thread in backEnd.threads {
                #expect(try backEnd.ask(thread) { $0.device.heldCount } == 2)
                thread.post { server in
                    server.device.holds = false
                    server.device.complete()
                }
            }
            try eventually { try backEnd.ask(backEnd.owner) { $0.server.orphanCount == 0 } }
            // What ended late reached no ring.
            for ring in guest.rings { #expect(!ring.driver.hasUsed) }
        }
    }

    @Test("polls rings that have no kick descriptor", arguments: RingFormat.allCases)
    func polled(_ format: RingFormat) throws {
        try withBackEnd { backEnd in
            let guest = try ThreadedGuest(backEnd, format)
            try guest.start()
            for ring in guest.rings {
                ring.driver.onKick = nil
                try guest.frontEnd.require(.setRingKick(ring.index, nil))
            }
            var next = [0, 0]
            try guest.exchange(200, &next)
        }
    }
}
