// SPDX-License-Identifier: Apache-2.0

/// A disk as a plain array of blocks, one command at a time: what the real one is compared with.
///
/// It knows what a command is supposed to come to from SPC-4 and SBC-3; where those leave a choice,
/// say in which order fields are checked, the choice stands here a second time.
struct ModelDisk {
    static let blockSize = 512
    static let blockCount = 64

    /// What comes back: struct virtio_scsi_req_cmd's response, and the data that were moved.
    struct Answer: Equatable {
        var response: UInt8 = 0
        var status: UInt8 = 0
        var sense: [UInt8] = []
        var data: [UInt8] = []
        var residual = 0
    }

    /// What is sent.
    struct Command {
        var nexus: Int
        var cdb: [UInt8]
        var out: [UInt8] = []
        var room = 0
        /// A bit that is reserved in this CDB and set.
        var illegalBit: (byte: Int, bit: UInt8)?
        var row = ModelReservations.Row.always
        var writes = false
    }

    var blocks = [[UInt8]](
        repeating: [UInt8](repeating: 0, count: blockSize), count: blockCount)
    var isAllocated = [Bool](repeating: false, count: blockCount)
    var reservations = ModelReservations()
    /// What each nexus is to be told: additional sense code and qualifier.
    var attentions: [[[UInt8]]] = [[], []]
    var hasDescriptorSense = false
    var isWriteProtected = false
    var isCacheEnabled = true

    // MARK: Ends

    /// Sense data, with the INFORMATION field or a field pointer.
    func check(
        _ command: Command, _ sense: [UInt8], information: Int? = nil,
        pointer: [UInt8]? = nil, moved: Int = 0
    ) -> Answer {
        var answer = Answer(status: 2)
        answer.sense = Self.sense(
            sense, information: information, pointer: pointer, isDescriptor: hasDescriptorSense)
        answer.residual = max(command.out.count, command.room) - moved
        return answer
    }

    static func sense(
        _ sense: [UInt8], information: Int? = nil, pointer: [UInt8]? = nil, isDescriptor: Bool
    ) -> [UInt8] {
        guard isDescriptor else {
            var bytes: [UInt8] = [
                0x70, 0, sense[0], 0, 0, 0, 0, 10, 0, 0, 0, 0, sense[1], sense[2],
            ]
            bytes += [0] + (pointer ?? [0, 0, 0])
            if let information {
                bytes[0] = 0xF0
                for index in 0..<4 {
                    bytes[3 + index] = UInt8(information >> (24 - 8 * index) & 0xFF)
                }
            }
            return bytes
        }
        var bytes: [UInt8] = [0x72, sense[0], sense[1], sense[2], 0, 0, 0, 0]
        if let information {
            bytes += [0, 10, 0x80, 0]
            bytes += (0..<8).map { UInt8(information >> (56 - 8 * $0) & 0xFF) }
        }
        if let pointer { bytes += [2, 6, 0, 0] + pointer + [0] }
        bytes[7] = UInt8(bytes.count - 8)
        return bytes
    }

    /// INVALID FIELD IN CDB, with the field's place.
    func invalidField(_ command: Command, _ byte: UInt8, bit: UInt8? = nil) -> Answer {
        check(command, [5, 0x24, 0], pointer: [bit.map { 0xC8 | $0 } ?? 0xC0, 0, byte])
    }

    /// INVALID FIELD IN PARAMETER LIST.
    func invalidParameter(
        _ command: Command, _ byte: UInt8, bit: UInt8? = nil, moved: Int
    ) -> Answer {
        check(
            command, [5, 0x26, 0], pointer: [bit.map { 0x88 | $0 } ?? 0x80, 0, byte], moved: moved)
    }

    func conflict(_ command: Command, moved: Int = 0) -> Answer {
        Answer(status: 0x18, residual: max(command.out.count, command.room) - moved)
    }

    /// GOOD with data-in.
    func data(_ command: Command, _ bytes: [UInt8], allocation: Int) -> Answer {
        let demanded = min(bytes.count, allocation)
        let moved = min(demanded, command.room)
        return Answer(
            response: demanded > command.room ? 1 : 0, data: Array(bytes[..<moved]),
            residual: abs(command.room - demanded))
    }

    /// GOOD with data-out; nil when the buffer is long enough, and the command goes on.
    func overrun(_ command: Command, _ demanded: Int) -> Answer? {
        demanded > command.out.count
            ? Answer(response: 1, residual: demanded - command.out.count) : nil
    }

    func good(_ command: Command, moved: Int = 0) -> Answer {
        Answer(residual: max(command.out.count, command.room) - moved)
    }

    // MARK: Commands

    mutating func execute(_ command: Command) -> Answer {
        let nexus = command.nexus
        let code = command.cdb[0]
        let isExempt = code == 0x12 || code == 0xA0 || code == 0x03
        if !isExempt, let attention = takeAttention(nexus) {
            return check(command, [6] + attention)
        }
        if code == 0xFF { return check(command, [5, 0x20, 0]) }
        if reservations.conflicts(command.row, nexus) { return conflict(command) }
        if let illegal = command.illegalBit {
            return invalidField(command, UInt8(illegal.byte), bit: illegal.bit)
        }
        if command.writes && isWriteProtected { return check(command, [7, 0x27, 0]) }
        switch code {
        case 0x00: return good(command)
        case 0x03: return requestSense(command)
        case 0x15: return modeSelect(command)
        case 0x1A: return modeSense(command)
        case 0x16, 0x17: return reserve(command)
        case 0x5E: return reserveIn(command)
        case 0x5F: return reserveOut(command)
        case 0x42: return unmap(command)
        case 0x9E: return blockStatus(command)
        default: return transfer(command)
        }
    }

    /// The most important one: resets before all that has the code 2Ah, in the order of the
    /// qualifiers 01h, 03h, 04h, 05h.
    mutating func takeAttention(_ nexus: Int) -> [UInt8]? {
        let rank: [[UInt8]] = [
            [0x29, 0x00], [0x29, 0x03], [0x29, 0x07], [0x2A, 0x01], [0x2A, 0x03], [0x2A, 0x04],
            [0x2A, 0x05],
        ]
        guard let first = rank.first(where: attentions[nexus].contains) else { return nil }
        attentions[nexus].removeAll { $0 == first }
        return first
    }

    mutating func raise(_ nexus: Int, _ attention: [UInt8]) {
        if !attentions[nexus].contains(attention) { attentions[nexus].append(attention) }
    }

    // MARK: Task management

    mutating func resetUnit() {
        hasDescriptorSense = false
        isWriteProtected = false
        isCacheEnabled = true
        reservations.reservedBy = nil
        for nexus in 0..<2 { raise(nexus, [0x29, 0x03]) }
    }

    mutating func resetNexus(_ nexus: Int) {
        if reservations.reservedBy == nexus { reservations.reservedBy = nil }
        raise(nexus, [0x29, 0x07])
    }
}
