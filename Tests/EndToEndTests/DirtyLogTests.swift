// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Glibc
import Guests
import Testing

@Suite("The dirty log of the SCSI device")
struct DirtyLogTests {
    /// READ(10) of some blocks, or INQUIRY, or a command that there is none of.
    private func cdb(_ generator: inout SeededGenerator) -> (bytes: [UInt8], room: Int) {
        let count = 1 + generator.below(128)
        let block = generator.below(8192)
        switch generator.below(6) {
        case 0: return ([0x12, 0, 0, 0, 36, 0], 36)
        case 1: return ([0xFF, 0, 0, 0, 0, 0], 0)
        default:
            let address = (0..<4).reversed().map { UInt8(truncatingIfNeeded: block >> (8 * $0)) }
            return ([0x28, 0] + address + [0, 0, UInt8(count), 0], 512 * count)
        }
    }

    @Test(
        "holds the pages that commands changed, and no other", arguments: RingFormat.allCases)
    func exact(_ format: RingFormat) throws {
        let daemon = try Daemon(diskMebibytes: 8)
        let guest = try SCSIGuest(socketPath: daemon.scsiSocketPath, format: format)
        try guest.start()
        let log = try DirtyLogFile(for: guest.memory)
        try guest.frontEnd.beginLogging(to: log, guest.rings)
        // There the driver writes, too.
        let rings = guest.rings.reduce(into: Set<UInt64>()) { $0.formUnion($1.pages) }
        var generator = SeededGenerator(seed: 16)
        for _ in 0..<100 {
            let count = 1 + generator.below(16)
            for tag in 0..<count {
                let (bytes, room) = cdb(&generator)
                guest.offer(bytes, room: room, tag: tag)
            }
            let before = guest.memory.snapshot()
            _ = try guest.answers(count)
            let changed = guest.memory.pagesChanged(since: before)
            // The device has nothing to do once it answers this.
            try guest.frontEnd.synchronize()
            let pages = log.take()
            #expect(pages.subtracting(rings) == changed.subtracting(rings))
            #expect(!pages.isDisjoint(with: rings))
        }
        #expect(log.canariesAreIntact)
        guest.frontEnd.disconnect()
        try daemon.remove()
    }

    @Test("may be cut short by the front-end: the service lives")
    func cutShort() throws {
        let daemon = try Daemon(diskMebibytes: 8)
        let guest = try SCSIGuest(socketPath: daemon.scsiSocketPath)
        try guest.start()
        let log = try DirtyLogFile(for: guest.memory)
        try guest.frontEnd.beginLogging(to: log, guest.rings)
        // The unit attention of a new session.
        _ = try guest.send([0x03, 0, 0, 0, 18, 0], room: 18)
        #expect(ftruncate(log.rawDescriptor, 0) == 0)
        for _ in 0..<20 {
            let answer = try guest.send([0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0], room: 4096)
            #expect(answer?.status == 0)
        }
        #expect(daemon.isRunning)
        guest.frontEnd.disconnect()
        try daemon.remove()
    }
}
