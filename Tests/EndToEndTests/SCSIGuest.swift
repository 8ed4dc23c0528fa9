// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Guests
import LinuxIO

/// A guest with one SCSI request queue, on QEMU's side of a real socket.
final class SCSIGuest {
    static let ringCount = 3

    let memory: TestMemory
    let frontEnd: FrontEnd
    let rings: [GuestRing]
    private let machine: QEMU

    init(socketPath: String, format: RingFormat = .split) throws {
        memory = try TestMemory(byteCount: 16 << 20)
        frontEnd = try FrontEnd(path: socketPath)
        machine = try QEMU(.ten, .scsi)
        let memory = memory
        let kickValue = machine.kickValue
        rings = try (0..<Self.ringCount).map { index in
            try GuestRing(
                index, format.makeDriver(in: memory, RingOptions(size: 128)),
                kickValue: kickValue)
        }
    }

    func start() throws {
        try machine.connect(frontEnd, ringCount: Self.ringCount)
        try machine.start(frontEnd, memory, rings, ringCount: Self.ringCount)
    }

    var requests: GuestRing { rings[2] }

    /// Offers a command to target 0, LUN 0: a header of 51 bytes, a response of 108, and data.
    ///
    /// The device is not told before `answers`, or a kick.
    func offer(_ cdb: [UInt8], out: [UInt8] = [], room: Int = 0, tag: Int = 0) {
        let header =
            [1, 0, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 11) + cdb
            + [UInt8](repeating: 0, count: 32 - cdb.count)
        let chain = Chain(
            readable: [memory.segment(header)] + (out.isEmpty ? [] : [memory.segment(out)]),
            writable: [memory.segment(byteCount: 108, filledWith: 0xEE)]
                + (room == 0 ? [] : [memory.segment(byteCount: room, filledWith: 0xEE)]))
        _ = requests.driver.add(chain, tag: tag)
    }

    /// Kicks, and waits for the answers to `count` commands: status, then data, by tag.
    func answers(_ count: Int) throws -> [Int: (status: UInt8, data: [UInt8])] {
        requests.driver.kick()
        var answers: [Int: (status: UInt8, data: [UInt8])] = [:]
        let clock = ContinuousClock()
        let deadline = clock.now + .seconds(20)
        while answers.count < count && clock.now < deadline {
            for buffer in try requests.driver.reapAll() {
                let bytes = memory.read(buffer.chain.writable)
                answers[buffer.tag] = (bytes[10], Array(bytes[108...]))
                memory.free(buffer.chain)
            }
        }
        guard answers.count == count else { throw GuestError("\(answers.count) of \(count)") }
        return answers
    }

    /// One command from start to end.
    func send(
        _ cdb: [UInt8], out: [UInt8] = [], room: Int = 0
    ) throws -> (status: UInt8, data: [UInt8])? {
        offer(cdb, out: out, room: room)
        return try answers(1)[0]
    }
}
