// SPDX-License-Identifier: Apache-2.0

import Driver

/// Commands at random: most of them right, some wrong in one way.
struct CommandGenerator {
    var random: SeededGenerator
    /// The keys that nexuses register, few, so that they meet.
    private static let keys: [UInt64] = [0, 0xA1, 0xB2, 0xB2_0000_0000]

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
    }

    mutating func next(_ model: ModelDisk) -> ModelDisk.Command {
        var command = ModelDisk.Command(nexus: random.below(2), cdb: [0, 0, 0, 0, 0, 0])
        switch random.below(20) {
        case 0..<9: makeTransfer(&command, model)
        case 9, 10: makeVerify(&command, model)
        case 11: makeWriteSame(&command)
        case 12: makeUnmap(&command)
        case 13: makeStatus(&command)
        case 14: makePlain(&command)
        case 15: makeMode(&command, model)
        default: makeReservation(&command, model)
        }
        if random.oneIn(16) { spoilBuffer(&command) }
        return command
    }

    // MARK: Blocks

    /// The codes of a command with CDBs of 10, 12 and 16 bytes, and its CDB of some blocks.
    private mutating func cdb(_ codes: [UInt8], flags: UInt8 = 0) -> (cdb: [UInt8], count: Int) {
        let first: UInt64 =
            random.oneIn(40)
            ? [63, 64, 65, 0xFFFF_FFFF, 1 << 63, .max][random.below(6)] : UInt64(random.below(60))
        let count = random.oneIn(12) ? 0 : 1 + random.below(5)
        let code = codes[random.below(codes.count)]
        let low = ModelDisk.bytes(first, 4)
        switch code {
        case 0x20..<0x60: return ([code, flags] + low + [0, 0, UInt8(count), 0], count)
        case 0xA0..<0xC0: return ([code, flags] + low + [0, 0, 0, UInt8(count), 0, 0], count)
        default:
            return ([code, flags] + ModelDisk.bytes(first) + [0, 0, 0, UInt8(count), 0, 0], count)
        }
    }

    private mutating func fill(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count * ModelDisk.blockSize)
        for _ in 0..<count {
            let value = UInt8(random.below(4))
            bytes += [UInt8](repeating: value, count: ModelDisk.blockSize)
        }
        if !bytes.isEmpty && random.oneIn(2) { bytes[random.below(bytes.count)] ^= 0x10 }
        return bytes
    }

    private mutating func makeTransfer(_ command: inout ModelDisk.Command, _ model: ModelDisk) {
        let force: UInt8 = random.oneIn(4) ? 0x08 : 0
        switch random.below(8) {
        case 0:
            let count = 1 + random.below(5)
            let writes = random.oneIn(2)
            command.cdb = [writes ? 0x0A : 0x08, 0, 0, UInt8(random.below(66)), UInt8(count), 0]
            command.row = writes ? .write : .read
            command.writes = writes
            if writes { command.out = fill(count) } else { command.room = count * 512 }
        case 1...3:
            let (cdb, count) = cdb([0x28, 0xA8, 0x88], flags: force)
            command.cdb = cdb
            command.row = .read
            command.room = count * ModelDisk.blockSize
        case 4...6:
            let (cdb, count) = cdb([0x2A, 0xAA, 0x8A, 0x8B, 0x8B], flags: force)
            command.cdb = cdb
            command.row = .write
            command.writes = true
            command.out = fill(count)
        default:
            makeCompareAndWrite(&command, model)
        }
        spoilBit(&command, byte: 1, bit: 5)
    }

    private mutating func makeCompareAndWrite(
        _ command: inout ModelDisk.Command, _ model: ModelDisk
    ) {
        let first = random.below(66)
        let count = random.below(3)
        command.cdb = [0x89, 0] + ModelDisk.bytes(UInt64(first)) + [0, 0, 0, UInt8(count), 0, 0]
        command.row = .write
        command.writes = true
        let isInside = first + count <= ModelDisk.blockCount
        // What is there, as a rule.
        command.out =
            (isInside && !random.oneIn(4)
                ? model.blocks[first..<first + count].flatMap { $0 } : fill(count)) + fill(count)
    }

    private mutating func makeVerify(_ command: inout ModelDisk.Command, _ model: ModelDisk) {
        let flags = UInt8(random.below(4)) << 1
        let (cdb, count) = cdb([0x2F, 0xAF, 0x8F, 0x2E, 0xAE, 0x8E], flags: flags)
        command.cdb = cdb
        let writes = cdb[0] & 0x0F == 0x0E
        command.row = writes ? .write : .read
        command.writes = writes
        if writes || flags & 0x02 != 0 { command.out = fill(count) }
        let (first, _) = ModelDisk.extent(cdb)
        if !writes, flags == 0x02, !random.oneIn(4), count > 0,
            first <= UInt64(ModelDisk.blockCount - count)
        {
            command.out = model.blocks[Int(first)..<Int(first) + count].flatMap { $0 }
        }
        spoilBit(&command, byte: 1, bit: 7)
    }

    private mutating func makeWriteSame(_ command: inout ModelDisk.Command) {
        let hasNoData = random.oneIn(3)
        let flags: UInt8 = (random.oneIn(3) ? 0x08 : 0) | (random.oneIn(20) ? 0x10 : 0)
        (command.cdb, _) = cdb(
            hasNoData ? [0x93] : [0x41, 0x93], flags: flags | (hasNoData ? 0x01 : 0))
        command.row = .write
        command.writes = true
        if !hasNoData {
            command.out = random.oneIn(3) ? [UInt8](repeating: 0, count: 512) : fill(1)
        }
        spoilBit(&command, byte: 1, bit: 6)
    }

    private mutating func makeUnmap(_ command: inout ModelDisk.Command) {
        var list: [UInt8] = []
        for _ in 0..<random.below(4) {
            let first = UInt64(random.below(random.oneIn(20) ? 80 : 60))
            list += ModelDisk.bytes(first) + [0, 0, 0, UInt8(random.below(5)), 0, 0, 0, 0]
        }
        let lengths = [UInt64(list.count + 6), UInt64(list.count)].flatMap {
            ModelDisk.bytes($0, 2)
        }
        command.out = lengths + [0, 0, 0, 0] + list
        if random.oneIn(20) { command.out = Array(command.out.prefix(random.below(8))) }
        command.cdb = [0x42, 0, 0, 0, 0, 0] + [0] + ModelDisk.bytes(UInt64(command.out.count), 2)
        command.cdb += [0]
        command.row = .write
        command.writes = true
        spoilBit(&command, byte: 1, bit: 0)
    }

    private mutating func makeStatus(_ command: inout ModelDisk.Command) {
        switch random.below(4) {
        case 0:
            command.cdb = [0x9E, 0x10] + [UInt8](repeating: 0, count: 11) + [32, 0, 0]
            command.row = .spc2
            command.room = 32
        case 1:
            (command.cdb, _) = cdb([0x34, 0x90])
            command.row = .read
        case 2:
            (command.cdb, _) = cdb([0x35, 0x91])
            command.row = .write
        default:
            let room = 24 + 16 * random.below(4)
            command.cdb =
                [0x9E, 0x12] + ModelDisk.bytes(UInt64(random.below(66)))
                + [0, 0, 0, UInt8(room), 0, 0]
            command.row = .read
            command.room = room
        }
    }

    // MARK: The rest

    private mutating func makePlain(_ command: inout ModelDisk.Command) {
        switch random.below(4) {
        case 0:
            command.row = .spc2
            spoilBit(&command, byte: 4, bit: 3)
        case 1:
            let room = random.below(24)
            command.cdb = [0x03, UInt8(random.below(2)), 0, 0, UInt8(room), 0]
            command.room = room
        case 2: command.cdb = [0xFF, 0, 0, 0, 0, 0]
        default:
            command.row = .spc2
        }
    }

    private mutating func makeMode(_ command: inout ModelDisk.Command, _ model: ModelDisk) {
        // A disk that refuses writes would be dull: SWP and D_SENSE are cleared sooner than set.
        let wasRestricted = model.isWriteProtected || model.hasDescriptorSense
        guard random.oneIn(2) || wasRestricted else {
            let room = [4, 24, 60, 255][random.below(4)]
            let page: UInt8 = [0x08, 0x0A, 0x3F, 0x3E][random.below(4)]
            command.cdb = [0x1A, 0x08, page, 0, UInt8(room), 0]
            command.row = .read
            command.room = room
            return
        }
        var page: [UInt8]
        if random.oneIn(2) || wasRestricted {
            page = [0x0A, 10, 0, 0x10, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0]
            if random.oneIn(4) { page[2] = 0x04 }
            if random.oneIn(8) { page[4] = 0x08 }
        } else {
            page = [0x08, 18] + [UInt8](repeating: 0, count: 18)
            if random.oneIn(2) { page[2] = 0x04 }
        }
        if random.oneIn(12) { page[5] ^= 0x20 }
        if random.oneIn(20) { page.removeLast() }
        command.out = [0, 0, 0, 0] + page
        if random.oneIn(30) { command.out = Array(command.out.prefix(random.below(4))) }
        command.cdb = [0x15, 0x10, 0, 0, UInt8(command.out.count), 0]
        command.row = .write
    }

    private mutating func makeReservation(_ command: inout ModelDisk.Command, _ model: ModelDisk) {
        switch random.below(10) {
        case 0:
            command.cdb = [random.oneIn(3) ? 0x16 : 0x17, 0, 0, 0, 0, 0]
            command.row = command.cdb[0] == 0x16 ? .read : .always
        case 1, 2:
            let room = random.oneIn(3) ? random.below(24) : 128
            command.cdb = [0x5E, UInt8(random.below(5)), 0, 0, 0, 0, 0, 0, UInt8(room), 0]
            // A service action that the disk does not have is refused before anything else.
            command.row = command.cdb[1] > 3 ? .always : .spc2
            command.room = room
        default: makeReserveOut(&command, model)
        }
    }

    private mutating func makeReserveOut(_ command: inout ModelDisk.Command, _ model: ModelDisk) {
        let action = UInt8([0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 5, 6, 6, 8][random.below(15)])
        var type: UInt8 = [1, 3, 5, 6, 7, 8][random.below(6)]
        if action == 2, let held = model.reservations.type, !random.oneIn(4) { type = held }
        if random.oneIn(20) { type = [0, 2, 4, 9, 0x11, 0x24][random.below(6)] }
        let own = model.reservations.key(of: command.nexus) ?? 0
        let key = random.oneIn(10) ? Self.keys[random.below(4)] : own
        let other = model.reservations.key(of: 1 - command.nexus) ?? 0
        let actionKey = random.oneIn(2) ? Self.keys[random.below(4)] : other
        command.out = ModelDisk.bytes(key) + ModelDisk.bytes(actionKey)
        command.out += [UInt8](repeating: 0, count: 8)
        if random.oneIn(30) { command.out[20] = [0x08, 0x04, 0x01, 0x0D][random.below(4)] }
        let length: UInt8 = random.oneIn(30) ? 23 : 24
        command.cdb = [0x5F, action, type, 0, 0, 0, 0, 0, length, 0]
        command.row = action > 7 ? .always : .spc2
    }

    // MARK: Mistakes

    /// Sets a reserved bit, now and then.
    private mutating func spoilBit(_ command: inout ModelDisk.Command, byte: Int, bit: UInt8) {
        guard random.oneIn(24), command.cdb[byte] & 1 << bit == 0 else { return }
        command.cdb[byte] |= 1 << bit
        command.illegalBit = (byte, bit)
    }

    /// Makes the buffer longer or shorter than the CDB says.
    private mutating func spoilBuffer(_ command: inout ModelDisk.Command) {
        let change = [-512, -100, -1, 1, 512][random.below(5)]
        if command.room > 0 {
            command.room = max(0, command.room + change)
        } else if change > 0 {
            command.out += [UInt8](repeating: 0x5A, count: change)
        } else {
            command.out = Array(command.out.dropLast(min(-change, command.out.count)))
        }
    }
}
