// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import Kernel
import LinuxIO
import SCSI
import Testing

/// A disk on a file, behind a kernel that can be told to fail, and an initiator.
final class DiskBench {
    let bench: Bench
    let folder: TestFolder
    let file: TestFile
    private(set) var disk: Disk
    private let bus: SCSIBus

    /// How a command came back.
    struct Answer: Equatable {
        var status: UInt8
        /// Sense key, additional sense code and its qualifier; empty without sense data.
        var sense: [UInt8] = []
        /// The INFORMATION field, when it is valid.
        var information: UInt32?
        /// Bytes that were moved to the initiator, or taken from it.
        var moved = 0

        /// GOOD, all of it.
        static func good(_ moved: Int = 0) -> Answer { Answer(status: 0x00, moved: moved) }
        /// CHECK CONDITION.
        static func sense(
            _ key: UInt8, _ code: UInt8, _ qualifier: UInt8, at information: UInt32? = nil,
            moved: Int = 0
        ) -> Answer {
            Answer(
                status: 0x02, sense: [key, code, qualifier], information: information,
                moved: moved)
        }
        /// BUSY.
        static let busy = Answer(status: 0x08)
    }

    init(_ medium: Medium = .disk, setUpErrnos: [Int32] = []) throws {
        folder = try medium.folder()
        file = try folder.file(byteCount: 128 << 10)
        bench = try Bench(setUpErrnos: setUpErrnos, clock: ManualClock())
        disk = Disk(store: try bench.open(file), identity: DiskIdentity(stableFrom: "test"))
        bus = SCSIBus(initiator: InitiatorPort(name: "test"), loop: bench.loop)
        try attach()
    }

    /// Closes the file and opens it again, as a new disk.
    func reopen() throws {
        bus.detach(target: 0, lun: try #require(LUN(0)))
        disk.close()
        disk = Disk(store: try bench.open(file), identity: DiskIdentity(stableFrom: "test"))
        try attach()
    }

    private func attach() throws {
        bus.attach(disk, target: 0, lun: try #require(LUN(0)))
        // REQUEST SENSE takes the unit attention of the power-on.
        _ = try send([0x03, 0, 0, 0, 18, 0], data: TestMemory(pieces: [18]))
    }

    /// Sends a command and waits for its end.
    func send(_ cdb: [UInt8], data: TestMemory? = nil, isOut: Bool = false) throws -> Answer {
        let commands = bus.commands
        let index = try #require(commands.reserve())
        commands.commands[index].address = LUNAddress(target: 0, lun: try #require(LUN(0)))
        commands.commands[index].request.attribute = .simple
        commands.commands[index].request.cdb = CDB(cdb)
        commands.commands[index].request.cdbByteCount = 32
        commands.commands[index].request.dataOut = isOut ? data?.pieces : nil
        commands.commands[index].request.dataOutByteCount = isOut ? data?.byteCount ?? 0 : 0
        commands.commands[index].request.dataIn = isOut ? nil : data?.pieces
        commands.commands[index].request.dataInByteCount = isOut ? 0 : data?.byteCount ?? 0
        bus.execute(index)
        var ended: Int?
        try bench.turn {
            ended = commands.popEnded()
            return ended != nil
        }
        #expect(ended == index)
        defer { commands.release(index) }
        return answer(commands.commands[index])
    }

    private func answer(_ command: borrowing Command) -> Answer {
        #expect(command.response == .complete)
        var answer = Answer(status: command.status.rawValue, moved: command.movedByteCount)
        let bytes = command.sense
        if command.status == .checkCondition, bytes.count >= 14 {
            answer.sense = [bytes[2] & 0x0F, bytes[12], bytes[13]]
            if bytes[0] & 0x80 != 0 {
                answer.information = bytes[3..<7].reduce(0) { $0 << 8 | UInt32($1) }
            }
        }
        return answer
    }

    // MARK: Commands

    /// READ (10) of 8 blocks at block 16; what has come is what stands there.
    func read() throws -> Answer {
        let memory = TestMemory(pieces: [4096])
        let answer = try send([0x28, 0, 0, 0, 0, 16, 0, 0, 8, 0], data: memory)
        if answer.status == 0 {
            #expect(memory.firstDifference { TestFile.pattern(8192 + $0) } == nil)
        }
        return answer
    }

    /// WRITE (10) of 8 blocks at block 32; what was written stands there.
    func write(forceUnitAccess: Bool = false) throws -> Answer {
        let memory = TestMemory(pieces: [4096], filledWith: 0x5A)
        let answer = try send(
            [0x2A, forceUnitAccess ? 0x08 : 0, 0, 0, 0, 32, 0, 0, 8, 0], data: memory, isOut: true)
        if answer.status == 0 {
            let bytes = try file.bytes(16384..<20480)
            #expect(bytes.allSatisfy { $0 == 0x5A })
        }
        return answer
    }

    /// SYNCHRONIZE CACHE (10).
    func synchronize() throws -> Answer { try send([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]) }

    /// UNMAP of 8 blocks at block 48.
    func unmap() throws -> Answer {
        let list = TestMemory(pieces: [24])
        list.bytes =
            [0, 22, 0, 16, 0, 0, 0, 0] + [0, 0, 0, 0, 0, 0, 0, 48] + [0, 0, 0, 8, 0, 0, 0, 0]
        return try send([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], data: list, isOut: true)
    }
}
