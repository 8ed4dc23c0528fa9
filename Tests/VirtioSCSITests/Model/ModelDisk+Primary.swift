// SPDX-License-Identifier: Apache-2.0

/// The commands of SPC-4.
extension ModelDisk {
    mutating func requestSense(_ command: Command) -> Answer {
        let attention = takeAttention(command.nexus)
        return data(
            command,
            Self.sense(
                attention.map { [6] + $0 } ?? [0, 0, 0], isDescriptor: command.cdb[1] & 1 != 0),
            allocation: Int(command.cdb[4]))
    }

    // MARK: Mode parameters

    private var cachingPage: [UInt8] {
        [0x08, 18, isCacheEnabled ? 0x04 : 0] + [UInt8](repeating: 0, count: 17)
    }

    private var controlPage: [UInt8] {
        [0x0A, 10, hasDescriptorSense ? 0x04 : 0, 0x10, isWriteProtected ? 0x08 : 0, 0, 0, 0]
            + [0xFF, 0xFF, 0, 0]
    }

    /// MODE SENSE(6), current values, no block descriptor.
    func modeSense(_ command: Command) -> Answer {
        let pages: [UInt8]
        switch command.cdb[2] {
        case 0x08: pages = cachingPage
        case 0x0A: pages = controlPage
        case 0x3F:
            pages =
                [0x01, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0] + cachingPage + controlPage
                + [0x1C, 10, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        default: return invalidField(command, 2, bit: 5)
        }
        let header = [UInt8(3 + pages.count), 0, isWriteProtected ? 0x90 : 0x10, 0]
        return data(command, header + pages, allocation: Int(command.cdb[4]))
    }

    /// MODE SELECT(6) of one page, which is one of the two with changeable bits.
    mutating func modeSelect(_ command: Command) -> Answer {
        let length = Int(command.cdb[4])
        if let answer = overrun(command, length) { return answer }
        if length == 0 { return good(command) }
        let list = command.out[..<length]
        if length < 4 { return check(command, [5, 0x1A, 0], moved: length) }
        let page = Array(list[4...])
        let current = page.first == 0x08 ? cachingPage : controlPage
        if page.count < current.count { return check(command, [5, 0x1A, 0], moved: length) }
        let changeable: [Int: UInt8] = page[0] == 0x08 ? [2: 0x04] : [2: 0x04, 4: 0x08]
        for index in 2..<current.count {
            let illegal = (page[index] ^ current[index]) & ~(changeable[index] ?? 0)
            if illegal != 0 {
                return invalidParameter(
                    command, UInt8(4 + index), bit: UInt8(7 - illegal.leadingZeroBitCount),
                    moved: length)
            }
        }
        if page != current {
            if page[0] == 0x08 {
                isCacheEnabled = page[2] & 0x04 != 0
            } else {
                hasDescriptorSense = page[2] & 0x04 != 0
                isWriteProtected = page[4] & 0x08 != 0
            }
            raise(1 - command.nexus, [0x2A, 0x01])
        }
        return good(command, moved: length)
    }

    // MARK: Reservations

    /// RESERVE(6) and RELEASE(6).
    mutating func reserve(_ command: Command) -> Answer {
        if !reservations.keys.isEmpty { return conflict(command) }
        if command.cdb[0] == 0x16 {
            reservations.reservedBy = command.nexus
        } else if reservations.reservedBy == command.nexus {
            reservations.reservedBy = nil
        }
        return good(command)
    }

    static func bytes(_ number: UInt64, _ count: Int = 8) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: number >> UInt64(8 * (count - 1 - $0))) }
    }

    func reserveIn(_ command: Command) -> Answer {
        var body: [UInt8] = []
        switch command.cdb[1] {
        case 0: body = reservations.keys.flatMap { Self.bytes($0.key) }
        case 1:
            if let type = reservations.type {
                let isAll = ModelReservations.all.contains(type)
                let key = isAll ? 0 : reservations.holder.flatMap { reservations.key(of: $0) } ?? 0
                body = Self.bytes(key) + [0, 0, 0, 0, 0, type, 0, 0]
            }
        case 2:
            return data(
                command, [0, 8, 0, 0x80, 0xEA, 0x01, 0, 0],
                allocation: Int(command.cdb[7]) << 8 | Int(command.cdb[8]))
        case 3:
            for (nexus, key) in reservations.keys {
                let holds = reservations.holds(nexus)
                body += Self.bytes(key) + [0, 0, 0, 0, holds ? 1 : 0]
                body += [holds ? reservations.type ?? 0 : 0, 0, 0, 0, 0]
                // The relative port, and the initiator's name in the format of iSCSI.
                body += [0, UInt8(nexus + 1), 0, 0, 0, 24, 5, 0, 0, 20]
                body += Array("guest".utf8) + [UInt8](repeating: 0, count: 15)
            }
        default: return invalidField(command, 1, bit: 4)
        }
        return data(
            command,
            Self.bytes(UInt64(reservations.generation), 4) + Self.bytes(UInt64(body.count), 4)
                + body,
            allocation: Int(command.cdb[7]) << 8 | Int(command.cdb[8]))
    }

    mutating func reserveOut(_ command: Command) -> Answer {
        let action = command.cdb[1]
        if action > 7 { return invalidField(command, 1, bit: 4) }
        let length = Int(command.cdb[8])
        if length != 24 { return check(command, [5, 0x1A, 0]) }
        if let answer = overrun(command, length) { return answer }
        if reservations.reservedBy != nil { return conflict(command, moved: length) }
        for (bit, mask) in [(3, 0x08), (2, 0x04), (0, 0x01)] as [(UInt8, UInt8)]
        where command.out[20] & mask != 0 {
            return invalidParameter(command, 20, bit: bit, moved: length)
        }
        let type = command.cdb[2]
        let takesType = [1, 4, 5].contains(action)
        if takesType && ![1, 3, 5, 6, 7, 8].contains(type & 0x0F) {
            return check(
                command, [5, 0x24, 0], pointer: [0xCB, 0, 2], moved: length)
        }
        if (takesType || action == 2) && type >> 4 != 0 {
            let isType = [1, 3, 5, 6, 7, 8].contains(type & 0x0F)
            return check(
                command, [5, 0x24, 0], pointer: [isType ? 0xCF : 0xCB, 0, 2], moved: length)
        }
        let key = command.out[..<8].reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        let actionKey = command.out[8..<16].reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        let (result, notices) = reservations.reserveOut(
            action, command.nexus, key: key, actionKey: actionKey, type: type & 0x0F)
        for notice in notices { raise(notice.nexus, [0x2A, notice.qualifier]) }
        switch result {
        case .good: return good(command, moved: length)
        case .conflict: return conflict(command, moved: length)
        case .sense([5, 0x26, 0]): return invalidParameter(command, 8, moved: length)
        case .sense(let sense): return check(command, sense, moved: length)
        }
    }
}
