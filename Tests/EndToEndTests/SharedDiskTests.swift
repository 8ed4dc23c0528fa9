// SPDX-License-Identifier: Apache-2.0

import Driver
import Foundation
import FrontEnd
import Glibc
import Guests
import LinuxIO
import Synchronization
import Testing

@Suite("Services of two machines that share a disk")
struct SharedDiskTests {
    static let write: [UInt8] = [0x2A, 0, 0, 0, 0, 5, 0, 0, 1, 0]
    static let block = [UInt8](repeating: 0xA5, count: 512)
    static let good: UInt8 = 0x00
    static let checkCondition: UInt8 = 0x02
    static let reservationConflict: UInt8 = 0x18

    /// The folder of the disk.
    final class Place {
        let folder: String
        var unit: String { "path=\(folder)/disk,shared,reservations=\(folder)/state" }

        init() throws {
            folder = try Workspace.makeRunFolder()
            try Program.makeFile(folder + "/disk", byteCount: 16 << 20)
        }

        deinit {
            try? FileManager.default.removeItem(atPath: folder)  // The next run has its own.
        }
    }

    /// A service with its machine.
    final class Machine {
        let program: Program
        let guest: SCSIGuest

        init(_ place: Place, name: String) throws {
            program = try Program([
                "run", "--scsi-socket", "@/s", "--lun", place.unit, "--scsi-initiator", name,
            ])
            try program.waitUntilListening("s")
            guest = try SCSIGuest(socketPath: program.folder + "/s")
            try guest.start()
            // The unit attention of a new session.
            _ = try guest.send([0x03, 0, 0, 0, 18, 0], room: 18)
        }

        static func list(key: UInt8, new: UInt8, persists: Bool) -> [UInt8] {
            [0, 0, 0, 0, 0, 0, 0, key, 0, 0, 0, 0, 0, 0, 0, new, 0, 0, 0, 0, persists ? 1 : 0]
                + [0, 0, 0]
        }

        /// The status of a PERSISTENT RESERVE OUT.
        func out(
            _ action: UInt8, key: UInt8 = 0, new: UInt8 = 0, type: UInt8 = 0,
            persists: Bool = false
        ) throws -> UInt8? {
            try guest.send(
                [0x5F, action, type, 0, 0, 0, 0, 0, 24, 0],
                out: Self.list(key: key, new: new, persists: persists))?.status
        }

        /// What PERSISTENT RESERVE IN, READ KEYS answers: the generation, and the last byte of each key.
        func keys() throws -> (generation: Int, keys: [UInt8])? {
            let answer = try guest.send([0x5E, 0, 0, 0, 0, 0, 0, 1, 0, 0], room: 256)
            guard let answer, answer.status == SharedDiskTests.good else { return nil }
            let count = Int(answer.data[7]) / 8
            let generation = answer.data[0..<4].reduce(0) { $0 << 8 | Int($1) }
            return (generation, (0..<count).map { answer.data[8 + 8 * $0 + 7] })
        }

        func write() throws -> SCSIGuest.Answer? {
            try guest.send(SharedDiskTests.write, out: SharedDiskTests.block)
        }

        /// Ends the service as nobody can prepare for.
        func kill() {
            _ = Glibc.kill(program.processID, SIGKILL)
            _ = program.exitStatus()
        }
    }

    @Test("obey each other's reservations, and are told of their end")
    func reservations() throws {
        let place = try Place()
        let (one, two) = (
            try Machine(place, name: "one"), try Machine(place, name: "two")
        )
        #expect(try two.write()?.status == Self.good)
        #expect(try one.out(0, new: 0xA1) == Self.good)
        #expect(try two.out(0, new: 0xB2) == Self.good)
        #expect(try one.out(1, key: 0xA1, type: 1) == Self.good)
        #expect(try two.write()?.status == Self.reservationConflict)
        #expect(try one.write()?.status == Self.good)
        #expect(try two.keys()?.keys == [0xA1, 0xB2])
        // PREEMPT: REGISTRATIONS PREEMPTED for the other.
        #expect(try two.out(4, key: 0xB2, new: 0xA1, type: 1) == Self.good)
        let told = try #require(try one.write())
        #expect(told.status == Self.checkCondition)
        #expect(told.sense[2] == 6 && told.sense[12...13] == [0x2A, 0x05])
        #expect(try one.write()?.status == Self.reservationConflict)
        #expect(try two.write()?.status == Self.good)
    }

    @Test("keep the reservation of a machine whose service was killed, until the last one ends")
    func loss() throws {
        let place = try Place()
        let one = try Machine(place, name: "one")
        let two = try Machine(place, name: "two")
        #expect(try one.out(0, new: 0xA1) == Self.good)
        #expect(try one.out(1, key: 0xA1, type: 1) == Self.good)
        one.kill()
        #expect(try two.write()?.status == Self.reservationConflict)
        let again = try Machine(place, name: "one")
        #expect(try again.write()?.status == Self.good)
        again.kill()
        two.kill()
        // Without APTPL it goes with the last, with APTPL it stays.
        let third = try Machine(place, name: "two")
        #expect(try third.keys()?.keys == [])
        #expect(try third.out(0, new: 0xB2, persists: true) == Self.good)
        #expect(try third.out(1, key: 0xB2, type: 3) == Self.good)
        third.kill()
        #expect(try Machine(place, name: "one").write()?.status == Self.reservationConflict)
    }

    @Test("are not harmed when one is killed while it changes what they share")
    func killed() throws {
        let place = try Place()
        let two = try Machine(place, name: "two")
        #expect(try two.out(0, new: 0xB2, persists: true) == Self.good)
        var generation = try #require(try two.keys()).generation
        for round in 0..<8 {
            let one = try Machine(place, name: "one")
            for number in 0..<40 {
                // REGISTER AND IGNORE EXISTING KEY: each is a change.
                one.guest.offer(
                    [0x5F, 6, 0, 0, 0, 0, 0, 0, 24, 0],
                    out: Machine.list(key: 0, new: UInt8(1 + number), persists: true), tag: number)
            }
            let answered = try one.guest.answers(1 + 3 * round)
            #expect(answered.values.allSatisfy { $0.status == Self.good })
            one.kill()
            let seen = try #require(try two.keys())
            // Every change that was answered is there, and perhaps later ones, each whole.
            #expect(seen.generation >= generation + answered.count)
            #expect(seen.generation <= generation + 40)
            #expect(seen.keys.count == 2 && seen.keys.contains(0xB2))
            let key = seen.keys.first { $0 != 0xB2 }
            #expect(key == UInt8(seen.generation - generation))
            generation = seen.generation
        }
        #expect(try two.out(3, key: 0xB2) == Self.good)
    }

    /// Somebody who is changing what is kept, and does not come to an end until told.
    final class Holder: Sendable {
        private let hasBegun = Atomic(false)
        private let isOver = Atomic(false)

        init(path: String) throws {
            let file = try LockedFile(path: path, isShared: true, limit: 1 << 20)
            _ = try startThread(name: "holder") { [self] in
                // The file is left as it is.
                _ = try? file.exchange { _ in
                    hasBegun.store(true, ordering: .sequentiallyConsistent)
                    while !isOver.load(ordering: .sequentiallyConsistent) { usleep(1000) }
                    return nil
                }
            }
            while !hasBegun.load(ordering: .sequentiallyConsistent) { usleep(1000) }
        }

        func end() { isOver.store(true, ordering: .sequentiallyConsistent) }
    }

    @Test("let a machine's other disks go on while one waits for another service")
    func waiting() throws {
        let place = try Place()
        let program = try Program([
            "run", "--scsi-socket", "@/s", "--lun", "target=0,path=@/own", "--lun",
            "target=1,\(place.unit)", "--control-socket", "@/c",
        ]) {
            try Program.makeFile($0 + "/own", byteCount: 1 << 20)
            try Program.makeFile($0 + "/more", byteCount: 1 << 20)
        }
        try program.waitUntilListening("s")
        let guest = try SCSIGuest(socketPath: program.folder + "/s")
        try guest.start()
        for target: UInt8 in 0...1 {
            _ = try guest.send([0x03, 0, 0, 0, 18, 0], room: 18, target: target)
        }
        let holders = try ["state", "state2"].map { try Holder(path: place.folder + "/" + $0) }
        defer { for holder in holders { holder.end() } }
        // A reservation of one disk, and a disk that is added, have to wait.
        guest.offer(
            [0x5F, 0, 0, 0, 0, 0, 0, 0, 24, 0],
            out: Machine.list(key: 0, new: 0xA1, persists: true), tag: 7, target: 1)
        let control = program.folder + "/c"
        let more =
            "target=2,path=\(program.folder)/more,shared,reservations=\(place.folder)/state2"
        _ = try startThread(name: "control") {
            // The answer may be that it takes long.
            _ = try? ControlSocket.ask(control, #"{"command":"lun-add","unit":"\#(more)"}"#)
        }
        for tag in 0..<5 {
            guest.offer(Self.write, out: Self.block, tag: tag)
            let answers = try guest.answers(1)
            #expect(answers.keys.elementsEqual([tag]) && answers[tag]?.status == Self.good)
        }
        #expect(try ControlSocket.unit(control, target: 2, lun: 0) == nil)
        for holder in holders { holder.end() }
        #expect(try guest.answers(1)[7]?.status == Self.good)
        var isThere = false
        for _ in 0..<20_000 where !isThere {
            isThere = try ControlSocket.unit(control, target: 2, lun: 0) != nil
            usleep(5_000)
        }
        #expect(isThere)
    }

    @Test(
        "have to say so, each of them",
        arguments: [
            ("disk", "of this one; services share a disk when each has it with shared"),
            ("disk,reservations=@state", "services share a disk when"),
            ("disk,shared", "'shared' needs reservations= beside it"),
            (
                "disk,shared,reservations=@other",
                "another service shares it with another reservations= file; all need the same"
            ),
            (
                "more,shared,reservations=@state",
                "another disk's reservations are kept there; each disk needs a file of its own"
            ),
        ])
    func sayingSo(unit: String, message: String) throws {
        let place = try Place()
        try Program.makeFile(place.folder + "/more", byteCount: 1 << 20)
        let one = try Machine(place, name: "one")
        let unit = "path=@" + unit
        let program = try Program([
            "run", "--scsi-socket", "@/s", "--lun",
            unit.replacingOccurrences(of: "@", with: place.folder + "/"),
        ])
        #expect(program.exitStatus() != nil)
        #expect(program.errors.contains(message), "\(program.errors)")
        #expect(try one.write()?.status == Self.good)
    }
}
