// SPDX-License-Identifier: Apache-2.0

import Driver
import Foundation
import FrontEnd
import Guests
import Testing

@Suite("A front-end on a real socket")
struct SessionTests {
    private func makeService() throws -> Program {
        let program = try Program(["run", "--scsi-socket", "@/s", "--lun", "@/disk"]) {
            try Program.makeFile($0 + "/disk", byteCount: 64 << 20)
        }
        try program.waitUntilListening("s")
        return program
    }

    /// A guest that has swallowed the unit attention of a new session.
    private func makeGuest(_ program: Program, _ format: RingFormat = .split) throws -> SCSIGuest {
        let guest = try SCSIGuest(socketPath: program.folder + "/s", format: format)
        try guest.start()
        _ = try guest.send([0x03, 0, 0, 0, 18, 0], room: 18)
        return guest
    }

    private func write10(_ block: UInt8, _ count: UInt8) -> [UInt8] {
        [0x2A, 0, 0, 0, 0, block, 0, 0, count, 0]
    }

    private func read10(_ block: UInt8, _ count: UInt8) -> [UInt8] {
        [0x28, 0, 0, 0, 0, block, 0, 0, count, 0]
    }

    @Test("reads back what it wrote, and so does the next one", arguments: RingFormat.allCases)
    func writeAndRead(format: RingFormat) throws {
        let program = try makeService()
        let bytes = (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let first = try makeGuest(program, format)
        #expect(try first.send(write10(8, 8), out: bytes)?.status == 0)
        #expect(try first.send(read10(8, 8), room: 4096)?.data == bytes)
        first.frontEnd.disconnect()
        try program.waitUntilListening("s")
        let second = try retrying { try makeGuest(program, format) }
        #expect(try second.send(read10(8, 8), room: 4096)?.data == bytes)
    }

    @Test("may still be reading and writing when SIGTERM comes: the end takes less than a second")
    func terminationUnderLoad() throws {
        let program = try makeService()
        let guest = try makeGuest(program)
        for tag in 0..<40 {
            guest.offer(
                write10(UInt8(tag), 128), out: [UInt8](repeating: 1, count: 65536), tag: tag)
        }
        guest.requests.driver.kick()
        #expect(program.terminate(within: .seconds(1)) == .exited(0))
    }

    @Test("can cut its memory short without ending the service")
    func memoryCutShort() throws {
        let program = try makeService()
        let guest = try makeGuest(program)
        guest.offer(write10(0, 8), out: [UInt8](repeating: 1, count: 4096))
        _ = guest.requests.driver.publish()
        ftruncate(guest.memory.rawDescriptor(ofRegion: 0), 0)
        guest.requests.kick.raise()
        try guest.frontEnd.synchronize()
        guest.frontEnd.disconnect()
        let next = try retrying { try makeGuest(program) }
        #expect(try next.send([0x00, 0, 0, 0, 0, 0])?.status == 0)
    }

    @Test("that goes in the middle of its requests leaves nothing behind, 100 times")
    func disconnectUnderLoad() throws {
        let program = try makeService()
        try retrying { try makeGuest(program) }.frontEnd.disconnect()
        let before = try program.settledFootprint
        for _ in 0..<100 {
            let guest = try retrying { try makeGuest(program) }
            for tag in 0..<20 {
                guest.offer(
                    write10(UInt8(tag), 128), out: [UInt8](repeating: 1, count: 65536), tag: tag)
            }
            guest.requests.driver.kick()
            guest.frontEnd.disconnect()
        }
        let after = try program.settledFootprint
        #expect(after.holdsAsMuch(as: before), "before \(before), after \(after)")
    }
}
