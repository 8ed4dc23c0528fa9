// SPDX-License-Identifier: Apache-2.0

import Driver
import Foundation
import FrontEnd
import Guests
import LinuxIO

/// A guest with SCSI request queues, on QEMU's side of a real socket.
final class SCSIGuest {
    let memory: TestMemory
    let frontEnd: FrontEnd
    private(set) var rings: [GuestRing]
    private let format: RingFormat
    private let machine: QEMU

    init(
        socketPath: String, format: RingFormat = .split, requestQueueCount: Int = 1
    ) throws {
        memory = try TestMemory(byteCount: 16 << 20)
        frontEnd = try FrontEnd(path: socketPath)
        machine = try QEMU(.ten, .scsi)
        self.format = format
        rings = []
        try makeRings(2 + requestQueueCount)
    }

    private func makeRings(_ count: Int) throws {
        rings = try (0..<count).map { index in
            try GuestRing(
                index, format.makeDriver(in: memory, RingOptions(size: 128)),
                kickValue: machine.kickValue)
        }
    }

    func start() throws {
        try machine.connect(frontEnd, ringCount: rings.count)
        try machine.start(frontEnd, memory, rings, ringCount: rings.count)
    }

    /// The machine is switched on: its firmware uses the first request queue alone.
    func startFirmware() throws {
        try machine.connect(frontEnd, ringCount: rings.count)
        try machine.start(frontEnd, memory, [requests], ringCount: rings.count)
    }

    /// The operating system takes the device over from the firmware, with rings of its own.
    func startSystem() throws {
        try machine.stop(frontEnd, memory, [requests], ringCount: rings.count)
        try machine.reset(frontEnd)
        try makeRings(rings.count)
        try machine.start(frontEnd, memory, rings, ringCount: rings.count)
    }

    var requests: GuestRing { rings[2] }

    /// A ring by its number; the first request queue is number 2.
    func ring(_ number: Int) -> GuestRing { rings[number] }

    /// How a command ended.
    struct Answer {
        let status: UInt8
        let response: UInt8
        let sense: [UInt8]
        let data: [UInt8]

        /// The response as virtio 1.3 §5.6.6.1 lays it out, and the data behind it.
        init(_ bytes: [UInt8]) {
            status = bytes[10]
            response = bytes[11]
            sense = Array(bytes[12..<108])
            data = Array(bytes[108...])
        }
    }

    /// Offers a command: a header of 51 bytes, a response of 108, and data.
    ///
    /// The device is not told before `answers`, or a kick.
    func offer(
        _ cdb: [UInt8], out: [UInt8] = [], room: Int = 0, tag: Int = 0, target: UInt8 = 0,
        lun: UInt8 = 0, queue: Int = 2
    ) {
        let header =
            [1, target, 0x40, lun, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 11) + cdb
            + [UInt8](repeating: 0, count: 32 - cdb.count)
        let chain = Chain(
            readable: [memory.segment(header)] + (out.isEmpty ? [] : [memory.segment(out)]),
            writable: [memory.segment(byteCount: 108, filledWith: 0xEE)]
                + (room == 0 ? [] : [memory.segment(byteCount: room, filledWith: 0xEE)]))
        _ = rings[queue].driver.add(chain, tag: tag)
    }

    /// Kicks, and waits for the answers to `count` commands at least, by tag.
    func answers(_ count: Int, queue: Int = 2) throws -> [Int: Answer] {
        rings[queue].driver.kick()
        var answers: [Int: Answer] = [:]
        let clock = SuspendingClock()
        let deadline = clock.now + .seconds(120)
        while answers.count < count && clock.now < deadline {
            for buffer in try rings[queue].driver.reapAll() {
                answers[buffer.tag] = Answer(memory.read(buffer.chain.writable))
                memory.free(buffer.chain)
            }
        }
        guard answers.count >= count else { throw GuestError("\(answers.count) of \(count)") }
        return answers
    }

    /// One command from start to end.
    func send(
        _ cdb: [UInt8], out: [UInt8] = [], room: Int = 0, target: UInt8 = 0, lun: UInt8 = 0
    ) throws -> Answer? {
        offer(cdb, out: out, room: room, target: target, lun: lun)
        return try answers(1)[0]
    }
}

/// A front-end that comes before the last one's end was noticed is turned away; it comes again.
func retrying<Result>(_ body: () throws -> Result) throws -> Result {
    let clock = SuspendingClock()
    let deadline = clock.now + .seconds(60)
    while clock.now < deadline {
        do { return try body() } catch { usleep(10_000) }
    }
    return try body()
}
