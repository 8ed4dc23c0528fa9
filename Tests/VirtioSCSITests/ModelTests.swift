// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Driver
import Foundation
import SCSI
import Stores
import Testing
import VirtioSCSI

/// The real device, driven over a ring, beside the model.
final class ModelRun {
    let guest: SCSIGuest
    var model = ModelDisk()
    var generator: CommandGenerator

    /// The queue of the next command.
    var queue = 2

    /// A run with so many servers beside the device, and a request queue for each of them, and one.
    init(_ format: RingFormat, seed: UInt64, servers: Int = 0) throws {
        guest = try SCSIGuest(
            format, requestQueues: servers + 1, blockCount: UInt64(ModelDisk.blockCount),
            servers: servers)
        generator = CommandGenerator(seed: seed)
        // The same disk at a second target: a second nexus.
        if let lun = LUN(0) { guest.bus.attach(guest.disk, target: 1, lun: lun) }
        guest.addRoutes(target: 1)
        model.raise(1, [0x29, 0x00])
    }

    /// What the two do not agree on.
    struct Difference: Error, CustomStringConvertible {
        let description: String
    }

    /// Sends commands, and now and then a reset, and compares every answer.
    func send(commandCount: Int) throws {
        for number in 0..<commandCount {
            if generator.random.oneIn(500) { try reset() }
            let command = generator.next(model)
            let before = model
            let expected = model.execute(command)
            let answer = try send(command)
            guard answer == expected else {
                throw Difference(
                    description: """
                        command \(number), seed \(generator.random.seed), nexus \(command.nexus): \
                        \(command.cdb) with \(command.out.count) bytes out, \(command.room) in
                        expected \(expected)
                        got      \(answer)
                        before: \(before.reservations), \(before.attentions)
                        """)
            }
        }
        try compareBlocks()
    }

    func compareBlocks() throws {
        for block in 0..<ModelDisk.blockCount
        where guest.store[UInt64(block)] != model.blocks[block] {
            throw Difference(description: "block \(block) is not what was written")
        }
    }

    private func send(_ command: ModelDisk.Command) throws -> ModelDisk.Answer {
        queue = 2 + generator.random.below(guest.servers.count + 1)
        offer(command, queue: queue)
        for _ in 0..<10_000 {
            try guest.turn()
            guard let response = try guest.reap(queue: queue).first else { continue }
            return try Self.answer(response, to: command)
        }
        throw Difference(description: "\(command.cdb): no answer")
    }

    func offer(_ command: ModelDisk.Command, attribute: UInt8 = 0, tag: Int = 0, queue: Int) {
        guest.offer(
            SCSIGuest.header(
                command.cdb, lun: [1, UInt8(command.nexus), 0, 0, 0, 0, 0, 0], attribute: attribute),
            out: command.out.isEmpty ? [] : [command.out],
            in: command.room == 0 ? [] : [command.room], queue: queue, tag: tag)
    }

    /// What came back, as the model has it.
    static func answer(
        _ response: SCSIGuest.Response, to command: ModelDisk.Command
    ) throws -> ModelDisk.Answer {
        let moved = Int(response.usedLength) - 108
        guard response.data.dropFirst(moved).allSatisfy({ $0 == 0xEE }) else {
            throw Difference(description: "\(command.cdb): more was written than was said")
        }
        return ModelDisk.Answer(
            response: response.response, status: response.status, sense: response.sense,
            data: Array(response.data.prefix(moved)), residual: Int(response.residual))
    }

    func reset() throws {
        let nexus = generator.random.below(2)
        let isUnitReset = generator.random.oneIn(2)
        let lun: [UInt8] = [1, UInt8(nexus), 0, 0, 0, 0, 0, 0]
        let request = SCSIGuest.taskManagement(isUnitReset ? 5 : 4, lun: lun)
        guard try guest.control(request) == [0] else {
            throw Difference(description: "a reset was not answered")
        }
        if isUnitReset { model.resetUnit() } else { model.resetNexus(nexus) }
    }
}

@Suite("A disk beside a model of it", .serialized)
struct ModelTests {
    /// How many commands are sent; VHOSTD_MODEL_COMMANDS says otherwise.
    static let commandCount =
        ProcessInfo.processInfo.environment["VHOSTD_MODEL_COMMANDS"].flatMap { Int($0) } ?? 50_000
    /// What the commands follow from; VHOSTD_MODEL_SEED brings a run back.
    static let seed =
        ProcessInfo.processInfo.environment["VHOSTD_MODEL_SEED"].flatMap { UInt64($0) }
        ?? UInt64.random(in: 1...UInt64.max)

    @Test("answers random commands of two initiators alike", arguments: RingFormat.allCases)
    func agrees(format: RingFormat) throws {
        print("model, \(format) ring: \(Self.commandCount / 2) commands, seed \(Self.seed)")
        try ModelRun(format, seed: Self.seed).send(commandCount: Self.commandCount / 2)
    }

    @Test("answers them alike when many are under way", arguments: RingFormat.allCases)
    func agreesOnMany(format: RingFormat) throws {
        let count = Self.commandCount / 2
        print("model, \(format) ring, together: \(count) commands, seed \(Self.seed)")
        try ModelRun(format, seed: Self.seed).sendTogether(commandCount: count)
    }

    @Test(
        "answers them alike when other threads serve some queues", arguments: RingFormat.allCases,
        [1, 3])
    func agreesAmongServers(format: RingFormat, servers: Int) throws {
        let count = Self.commandCount / 4
        print("model, \(format) ring, \(servers) servers: \(count) commands, seed \(Self.seed)")
        let run = try ModelRun(format, seed: Self.seed, servers: servers)
        try run.send(commandCount: count)
        // The servers have executed something by themselves, too.
        let figures = try #require(run.guest.disk.gateKeeper?.gate.figures)
        #expect(figures.readCount > 0 && figures.writeCount > 0)
    }

    @Test(
        "answers them alike when many are under way at a server", arguments: RingFormat.allCases)
    func agreesOnManyAtServer(format: RingFormat) throws {
        let count = Self.commandCount / 4
        print("model, \(format) ring, server, together: \(count) commands, seed \(Self.seed)")
        let run = try ModelRun(format, seed: Self.seed, servers: 1)
        try run.sendTogether(commandCount: count)
        let figures = try #require(run.guest.disk.gateKeeper?.gate.figures)
        #expect(figures.readCount > 0 && figures.writeCount > 0)
    }
}
