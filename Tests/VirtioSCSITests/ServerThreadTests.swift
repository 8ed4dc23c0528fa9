// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Driver
import SCSI
import Stores
import Testing
import VirtioSCSI

@Suite("Request servers on threads of their own", .serialized)
struct ServerThreadTests {
    private static let commandsAtOnce = 12

    /// WRITE or READ (10) of one block.
    private func transfer(_ code: UInt8, _ block: Int) -> [UInt8] {
        [code, 0, 0, 0, UInt8(block >> 8), UInt8(block & 0xFF), 0, 0, 1, 0]
    }

    private func pattern(_ round: Int, _ queue: Int, _ tag: Int) -> [UInt8] {
        let seed = [UInt8(round & 0xFF), UInt8(round >> 8), UInt8(queue), UInt8(tag)]
        return (0..<512).map { seed[$0 % 4] }
    }

    private func block(_ queue: Int, _ tag: Int) -> Int { queue * 32 + tag }

    /// Writes one block a command over every queue, again those that a reset has ended.
    private func write(_ guest: ThreadedGuest, round: Int) throws {
        var left = Set<[Int]>()
        for queue in 2..<guest.rings.count {
            for tag in 0..<Self.commandsAtOnce { left.insert([queue, tag]) }
        }
        var attempts = 0
        while !left.isEmpty {
            attempts += 1
            try #require(attempts < 50)
            for place in left {
                guest.offer(
                    transfer(0x2A, block(place[0], place[1])),
                    out: [pattern(round, place[0], place[1])],
                    attribute: place[1] == 7 ? 1 : 0, tag: place[1], queue: place[0])
            }
            if attempts == 1 { disturb(guest, round: round) }
            try guest.takeAnswers { answer in
                if answer.queue == 0 {
                    #expect(answer.response == 0, "function \(answer.tag)")
                } else if answer.tag < Self.commandsAtOnce {
                    if answer.response == 0 && answer.status == 0 {
                        left.remove([answer.queue, answer.tag])
                    }
                }
            }
        }
    }

    /// What must not run beside reads and writes of other threads.
    private func disturb(_ guest: ThreadedGuest, round: Int) {
        guest.offer([0, 0, 0, 0, 0, 0], attribute: 1, tag: 100, queue: 2)
        let old = [UInt8](repeating: 0, count: 512)
        guest.offer(
            [0x89, 0, 0, 0, 0, 0, 0, 0, 0x0F, 0, 0, 0, 0, 1, 0, 0], out: [old, old], tag: 101,
            queue: 2)
        // SYNCHRONIZE CACHE and MODE SENSE come by the device beside the others.
        guest.offer(
            [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], tag: 102, queue: guest.rings.count - 1)
        switch round % 4 {
        case 0: guest.manage(5, tag: 1)
        case 1: guest.manage(0, tag: 3)
        case 2: guest.manage(4, tag: 2)
        default: break
        }
    }

    private func readBack(_ guest: ThreadedGuest, round: Int) throws {
        // What a reset at the end has left to be told.
        guest.offer([0x03, 0, 0, 0, 18, 0], room: 18, tag: 0, queue: 2)
        try guest.takeAnswers { #expect($0.status == 0) }
        let count = guest.rings.count - 2
        var offered = 0
        for queue in 2..<guest.rings.count {
            // What one thread wrote another one reads.
            let writer = 2 + (queue - 1) % count
            for tag in 0..<Self.commandsAtOnce {
                guest.offer(
                    transfer(0x28, block(writer, tag)), room: 512, tag: tag, queue: queue)
                offered += 1
            }
        }
        try guest.takeAnswers { answer in
            let writer = 2 + (answer.queue - 1) % count
            let isRight = answer.data == pattern(round, writer, answer.tag)
            #expect(answer.response == 0 && answer.status == 0 && isRight)
            offered -= 1
        }
        #expect(offered == 0)
    }

    @Test(
        "lose nothing beside resets, aborts and commands that must be alone",
        arguments: RingFormat.allCases, [2, 4])
    func load(format: RingFormat, threadCount: Int) throws {
        let guest = try ThreadedGuest(format, threadCount: threadCount, queueCount: 5)
        for round in 0..<40 {
            try write(guest, round: round)
            try readBack(guest, round: round)
        }
        let figures = try #require(guest.disk.gateKeeper?.gate.figures)
        #expect(figures.readCount > 0)
        // Not one is counted twice or forgotten.
        let own = guest.store.log.count { $0.operation == .read }
        #expect(Int(figures.readCount) + own >= 40 * 5 * Self.commandsAtOnce)
        try guest.stop()
    }

    @Test("go on while their disk is taken away and put back", arguments: RingFormat.allCases)
    func removal(format: RingFormat) throws {
        let guest = try ThreadedGuest(format, threadCount: 3, queueCount: 3)
        let lun = try #require(LUN(0))
        for round in 0..<20 {
            try write(guest, round: round)
            for queue in 2..<guest.rings.count {
                for tag in 0..<Self.commandsAtOnce {
                    guest.offer(
                        transfer(0x28, block(queue, tag)), room: 512, tag: tag, queue: queue)
                }
            }
            guest.bus.detach(target: 0, lun: lun)
            try guest.takeAnswers { answer in
                // Done before, aborted by the removal, or no target any more.
                #expect([0, 3, 7].contains(answer.response))
            }
            guest.attach(at: lun)
        }
        try guest.stop()
    }
}
