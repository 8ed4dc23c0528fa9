// SPDX-License-Identifier: Apache-2.0

import Driver
import Foundation
import FrontEnd
import Guests
import Testing

@Suite("A service with several request threads")
struct RequestThreadTests {
    private static let ready: [UInt8] = [0, 0, 0, 0, 0, 0]
    private static let threadCount = 3

    private let program: Program
    private let control: String

    init() throws {
        program = try Program([
            "run", "--scsi-socket", "@/s", "--lun", "@/disk", "--control-socket", "@/c",
            "--scsi-threads", "\(Self.threadCount)",
        ]) {
            try Program.makeFile($0 + "/disk", byteCount: 16 << 20)
            try Program.makeFile($0 + "/more", byteCount: 8 << 20)
        }
        control = program.folder + "/c"
        try program.waitUntilListening("c")
    }

    /// A guest with four request queues that has swallowed the unit attention of a new session.
    private func makeGuest(_ format: RingFormat = .split) throws -> SCSIGuest {
        let guest = try SCSIGuest(
            socketPath: program.folder + "/s", format: format, requestQueueCount: 4)
        try guest.start()
        _ = try guest.send([0x03, 0, 0, 0, 18, 0], room: 18)
        return guest
    }

    private func transfer(_ code: UInt8, _ block: Int) -> [UInt8] {
        [code, 0, 0, 0, UInt8(block >> 8), UInt8(block & 0xFF), 0, 0, 8, 0]
    }

    private func bytes(_ queue: Int, _ tag: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(queue * 32 + tag), count: 4096)
    }

    /// Writes over every queue, and reads over another one what was written there.
    private func writeAndReadBack(_ guest: SCSIGuest, target: UInt8 = 0, lun: UInt8 = 0) throws {
        for queue in 2..<6 {
            for tag in 0..<8 {
                guest.offer(
                    transfer(0x2A, queue * 64 + tag * 8), out: bytes(queue, tag), tag: tag,
                    target: target, lun: lun, queue: queue)
            }
        }
        for queue in 2..<6 {
            let answers = try guest.answers(8, queue: queue)
            #expect(answers.values.allSatisfy { $0.response == 0 && $0.status == 0 })
        }
        for queue in 2..<6 {
            for tag in 0..<8 {
                guest.offer(
                    transfer(0x28, (7 - queue) * 64 + tag * 8), room: 4096, tag: tag,
                    target: target, lun: lun, queue: queue)
            }
        }
        for queue in 2..<6 {
            let answers = try guest.answers(8, queue: queue)
            let areRight = answers.allSatisfy { $0.value.data == bytes(7 - queue, $0.key) }
            #expect(areRight && answers.count == 8)
        }
    }

    @Test("reads over one queue what was written over another", arguments: RingFormat.allCases)
    func queues(format: RingFormat) throws {
        let guest = try makeGuest(format)
        for _ in 0..<10 { try writeAndReadBack(guest) }
        let status = try ControlSocket.ask(control, #"{"command":"status"}"#)["status"]
        let scsi = (status as? [String: Any])?["scsi"] as? [String: Any]
        #expect(scsi?["threadCount"] as? Int == Self.threadCount)
        #expect(scsi?["underWayCount"] as? Int == 0)
        let unit = try #require(try ControlSocket.unit(control, target: 0, lun: 0))
        let figures = try #require(unit["figures"] as? [String: Any])
        // Whatever thread has done it.
        #expect(figures["writeCount"] as? Int == 320 && figures["readCount"] as? Int == 320)
        #expect(figures["writtenByteCount"] as? Int == 320 * 4096)
    }

    /// The firmware waits for each answer, kicks once and never asks again.
    @Test(
        "serves machine after machine, first its firmware and then its system",
        arguments: RingFormat.allCases)
    func machines(format: RingFormat) throws {
        let count = Int(ProcessInfo.processInfo.environment["VHOSTD_MACHINES"] ?? "") ?? 20
        for number in 0..<count {
            let guest = try retrying {
                let guest = try SCSIGuest(
                    socketPath: program.folder + "/s", format: format, requestQueueCount: 4)
                try guest.startFirmware()
                return guest
            }
            for _ in 0..<8 {
                _ = try guest.send(Self.ready)
                #expect(try guest.send([0x12, 0, 0, 0, 36, 0], room: 36)?.status == 0)
                _ = try guest.send(transfer(0x28, 0), room: 4096)
            }
            try guest.startSystem()
            _ = try guest.send([0x03, 0, 0, 0, 18, 0], room: 18)
            try writeAndReadBack(guest)
            // Every other one is killed while its requests are under way.
            if number % 2 == 0 {
                for queue in 2..<6 {
                    for tag in 0..<8 {
                        let cdb = tag == 0 ? Self.ready : transfer(0x28, tag * 8)
                        guest.offer(cdb, room: tag == 0 ? 0 : 4096, tag: tag, queue: queue)
                    }
                    guest.ring(queue).driver.kick()
                }
            }
            guest.frontEnd.disconnect()
        }
    }

    @Test("names its threads, as many as it was told")
    func threads() throws {
        let expected = ["scsi\n", "scsi-2\n", "scsi-3\n"]
        var names = try scsiThreadNames()
        // A thread that has just been started has the name of who started it.
        for _ in 0..<6000 where names != expected {
            usleep(10_000)
            names = try scsiThreadNames()
        }
        #expect(names == expected)
    }

    private func scsiThreadNames() throws -> [String] {
        let folder = "/proc/\(program.processID)/task"
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).compactMap {
            // It may have ended.
            try? String(contentsOfFile: "\(folder)/\($0)/comm", encoding: .utf8)
        }
        return names.filter { $0.hasPrefix("scsi") }.sorted()
    }

    @Test("adds and removes a disk while every queue is busy")
    func changes() throws {
        let guest = try makeGuest()
        for round in 0..<6 {
            let added = try ControlSocket.ask(
                control,
                #"{"command":"lun-add","unit":"target=1,lun=0,path=\#(program.folder)/more"}"#)
            #expect(added["error"] == nil, "round \(round): \(added)")
            // The newcomer's unit attentions, and that the list has changed.
            for target: UInt8 in [0, 1] {
                for _ in 0..<3 { _ = try guest.send(Self.ready, target: target) }
            }
            try writeAndReadBack(guest, target: 1)
            try writeAndReadBack(guest)
            for queue in 2..<6 {
                for tag in 0..<8 {
                    guest.offer(
                        transfer(0x28, tag * 8), room: 4096, tag: tag, target: 1, queue: queue)
                }
                guest.ring(queue).driver.kick()
            }
            let removed = try ControlSocket.ask(
                control, #"{"command":"lun-remove","place":{"target":1,"lun":0}}"#)
            #expect(removed["error"] == nil, "round \(round): \(removed)")
            for queue in 2..<6 {
                let answers = try guest.answers(8, queue: queue)
                #expect(answers.values.allSatisfy { [0, 3, 7].contains($0.response) })
            }
        }
    }

    @Test("limits a disk and gives it another size while every queue is busy")
    func limitsAndResizes() throws {
        let guest = try makeGuest()
        let place = #""place":{"target":0,"lun":0}"#
        func readEverywhere() {
            for queue in 2..<6 {
                for tag in 0..<8 {
                    guest.offer(transfer(0x28, tag * 8), room: 4096, tag: tag, queue: queue)
                }
                guest.ring(queue).driver.kick()
            }
        }
        for round in 1...4 {
            readEverywhere()
            let limits = round % 2 == 0 ? "{}" : #"{"operationsPerSecond":5000}"#
            let limited = try ControlSocket.ask(
                control, #"{"command":"lun-limit",\#(place),"limits":\#(limits)}"#)
            #expect(limited["error"] == nil, "\(limited)")
            for queue in 2..<6 {
                let answers = try guest.answers(8, queue: queue)
                #expect(answers.values.allSatisfy { $0.response == 0 && $0.status == 0 })
            }
            readEverywhere()
            let size = UInt64(16 + round) << 20
            try Program.resizeFile(program.folder + "/disk", byteCount: size)
            let resized = try ControlSocket.ask(control, #"{"command":"lun-resize",\#(place)}"#)
            #expect(resized["error"] == nil, "\(resized)")
            // One command is told of the new size; the others are done.
            var tellers = 0
            for queue in 2..<6 {
                for answer in try guest.answers(8, queue: queue).values where answer.status != 0 {
                    #expect(Array(answer.sense[12..<14]) == [0x2A, 0x09])
                    tellers += 1
                }
            }
            for _ in 0..<3 where tellers == 0 {
                guest.offer(Self.ready, tag: 0)
                if let answer = try guest.answers(1)[0], answer.status == 2 { tellers += 1 }
            }
            #expect(tellers == 1)
            // The last blocks of the new size, over a queue of another thread.
            let last = Int(size / 512) - 8
            let cdb: [UInt8] = [
                0x28, 0, 0, UInt8(last >> 16), UInt8(last >> 8 & 0xFF), UInt8(last & 0xFF), 0, 0, 8,
                0,
            ]
            for _ in 0..<2 {
                guest.offer(cdb, room: 4096, tag: 1, queue: 3)
                #expect(try guest.answers(1, queue: 3)[1]?.status == 0)
            }
        }
    }

    @Test("stops in good order under load, and with a front-end that has left")
    func stops() throws {
        var guest: SCSIGuest? = try makeGuest()
        for queue in 2..<6 {
            for tag in 0..<8 {
                guest?.offer(transfer(0x28, tag * 8), room: 4096, tag: tag, queue: queue)
            }
            guest?.ring(queue).driver.kick()
        }
        // Leaves while its requests are under way.
        guest?.frontEnd.disconnect()
        guest = nil
        let next = try retrying { try makeGuest(.packed) }
        try writeAndReadBack(next)
        for queue in 2..<6 {
            for tag in 0..<8 {
                next.offer(transfer(0x28, tag * 8), room: 4096, tag: tag, queue: queue)
            }
            next.ring(queue).driver.kick()
        }
        program.terminate()
        #expect(program.exitStatus() == .exited(0))
    }
}
