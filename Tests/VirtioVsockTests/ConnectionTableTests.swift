// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("The table of connections")
struct ConnectionTableTests {
    private func key(_ peerPort: UInt32, _ guestPort: UInt32, peer: UInt32 = 2) -> ConnectionKey {
        ConnectionKey(
            peer: ContextID(rawValue: peer), peerPort: VsockPort(rawValue: peerPort),
            guestPort: VsockPort(rawValue: guestPort))
    }

    @Test("finds what a plain dictionary finds, through any sequence of changes")
    func model() throws {
        let limit = 200
        let table = ConnectionTable(limit: limit, seed: 7)
        var model: [ConnectionKey: Int] = [:]
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<60_000 {
            let key = key(UInt32(generator.below(25)), UInt32(generator.below(20)))
            #expect(table.find(key) == model[key])
            if let slot = model[key] {
                if generator.oneIn(2) { continue }
                table.remove(slot)
                table.release(slot)
                model[key] = nil
            } else if let slot = table.allocate() {
                table.slots[slot].connection.key = key
                table.insert(slot)
                model[key] = slot
            } else {
                #expect(model.count == limit)
                let (key, slot) = try #require(model.first)
                table.remove(slot)
                table.release(slot)
                model[key] = nil
            }
            #expect(table.count == model.count)
        }
    }

    @Test("tells peers with the same ports apart")
    func peers() throws {
        let table = ConnectionTable(limit: 4)
        let slot = try #require(table.allocate())
        table.slots[slot].connection.key = key(5, 6)
        table.insert(slot)
        #expect(table.find(key(5, 6)) == slot)
        #expect(table.find(key(5, 6, peer: 9)) == nil)
        #expect(table.find(key(6, 5)) == nil)
    }

    @Test("gives turns in order, one to each connection")
    func turns() throws {
        let table = ConnectionTable(limit: 100)
        for _ in 0..<5 { _ = table.allocate() }
        for slot in [3, 1, 4, 1, 3] { table.appendReady(slot) }
        #expect(table.firstReady == 3)
        table.removeReady(1)
        table.removeReady(1)
        table.removeReady(3)
        #expect(table.firstReady == 4)
        table.appendReady(3)
        table.removeReady(4)
        #expect(table.firstReady == 3)
        table.removeReady(3)
        #expect(table.firstReady == nil)
    }

    @Test("keeps waits of a kind in the order of their beginnings")
    func waits() throws {
        let table = ConnectionTable(limit: 100)
        for _ in 0..<3 { _ = table.allocate() }
        for slot in 0..<3 {
            table.appendWaiting(slot, .closing, until: Instant(nanoseconds: UInt64(slot)))
        }
        table.appendWaiting(0, .linger, until: Instant(nanoseconds: 9))
        #expect(table.firstWaiting(.closing) == 1)
        #expect(table.firstWaiting(.linger) == 0)
        #expect(table.waitingCount(.closing) == 2)
        table.release(1)
        #expect(table.firstWaiting(.closing) == 2)
    }
}
