// SPDX-License-Identifier: Apache-2.0

/// The commands of SBC-3 that move or change blocks.
extension ModelDisk {
    /// First block and count of a CDB.
    static func extent(_ cdb: [UInt8]) -> (first: UInt64, count: Int) {
        func number(_ range: Range<Int>) -> UInt64 {
            cdb[range].reduce(0) { $0 << 8 | UInt64($1) }
        }
        switch cdb[0] {
        case 0x08, 0x0A: return (number(1..<4) & 0x1F_FFFF, cdb[4] == 0 ? 256 : Int(cdb[4]))
        case 0x89: return (number(2..<10), Int(cdb[13]))
        case 0x20..<0x60: return (number(2..<6), Int(number(7..<9)))
        case 0xA0..<0xC0: return (number(2..<6), Int(number(6..<10)))
        default: return (number(2..<10), Int(number(10..<14)))
        }
    }

    mutating func transfer(_ command: Command) -> Answer {
        let (first64, count) = Self.extent(command.cdb)
        let code = command.cdb[0]
        let flags = command.cdb[1]
        // Fields that are looked at before the blocks.
        let illegalFlags: (mask: UInt8, bit: UInt8) =
            switch code {
            case 0x2E, 0xAE, 0x8E: (0x04, 2)
            case 0x41, 0x93: (0x10, 4)
            default: (0, 0)
            }
        let isUnknownCheck = [0x2F, 0xAF, 0x8F].contains(code) && flags & 0x06 == 0x04
        if isUnknownCheck { return invalidField(command, 1, bit: 2) }
        if flags & illegalFlags.mask != 0 {
            return invalidField(command, 1, bit: illegalFlags.bit)
        }
        guard count <= Self.blockCount, first64 <= UInt64(Self.blockCount - count) else {
            return check(command, [5, 0x21, 0])
        }
        let range = Int(first64)..<Int(first64) + count
        switch code {
        case 0x08, 0x28, 0xA8, 0x88:
            return data(command, blocks[range].flatMap { $0 }, allocation: .max)
        case 0x0A, 0x2A, 0xAA, 0x8A: return write(command, range)
        case 0x2E, 0xAE, 0x8E: return write(command, range)
        case 0x2F, 0xAF, 0x8F: return verify(command, range)
        case 0x8B: return orWrite(command, range)
        case 0x89: return compareAndWrite(command, range)
        case 0x41, 0x93: return writeSame(command, range)
        default: return good(command)
        }
    }

    private static func block(_ number: Int, of data: [UInt8], from start: Int = 0) -> [UInt8] {
        let first = start + number * blockSize
        return Array(data[first..<first + blockSize])
    }

    private mutating func put(_ data: [UInt8], _ range: Range<Int>, from start: Int = 0) {
        for (number, block) in range.enumerated() {
            blocks[block] = Self.block(number, of: data, from: start)
            isAllocated[block] = true
        }
    }

    private mutating func write(_ command: Command, _ range: Range<Int>) -> Answer {
        let demanded = range.count * Self.blockSize
        if let answer = overrun(command, demanded) { return answer }
        put(command.out, range)
        return good(command, moved: demanded)
    }

    private func verify(_ command: Command, _ range: Range<Int>) -> Answer {
        let check = command.cdb[1] >> 1 & 0x03
        if check == 0 { return good(command) }
        let demanded =
            check == 1 ? range.count * Self.blockSize : range.isEmpty ? 0 : Self.blockSize
        if let answer = overrun(command, demanded) { return answer }
        for (number, block) in range.enumerated() {
            let expected = Self.block(check == 1 ? number : 0, of: command.out)
            if let byte = zip(blocks[block], expected).enumerated().first(where: { $1.0 != $1.1 }) {
                return self.check(
                    command, [0x0E, 0x1D, 0], information: number * Self.blockSize + byte.offset)
            }
        }
        return good(command, moved: demanded)
    }

    private mutating func orWrite(_ command: Command, _ range: Range<Int>) -> Answer {
        let demanded = range.count * Self.blockSize
        if let answer = overrun(command, demanded) { return answer }
        var result: [UInt8] = []
        for (number, block) in range.enumerated() {
            result += zip(blocks[block], Self.block(number, of: command.out)).map { $0 | $1 }
        }
        put(result, range)
        return good(command, moved: demanded)
    }

    private mutating func compareAndWrite(_ command: Command, _ range: Range<Int>) -> Answer {
        if range.isEmpty && !command.out.isEmpty { return invalidField(command, 13) }
        let half = range.count * Self.blockSize
        if let answer = overrun(command, 2 * half) { return answer }
        let old = blocks[range].flatMap { $0 }
        if let byte = zip(old, command.out).enumerated().first(where: { $1.0 != $1.1 }) {
            return check(command, [0x0E, 0x1D, 0], information: byte.offset)
        }
        put(command.out, range, from: half)
        return good(command, moved: 2 * half)
    }

    private mutating func writeSame(_ command: Command, _ range: Range<Int>) -> Answer {
        if range.isEmpty { return invalidField(command, command.cdb[0] == 0x93 ? 10 : 7) }
        let hasNoData = command.cdb[0] == 0x93 && command.cdb[1] & 0x01 != 0
        if !hasNoData && command.out.count != Self.blockSize { return invalidField(command, 0) }
        let block = hasNoData ? [UInt8](repeating: 0, count: Self.blockSize) : command.out
        for number in range {
            blocks[number] = block
            // The store of the test has zeroes for nothing.
            isAllocated[number] = block.contains { $0 != 0 }
        }
        return good(command, moved: hasNoData ? 0 : Self.blockSize)
    }

    mutating func unmap(_ command: Command) -> Answer {
        let length = Int(command.cdb[7]) << 8 | Int(command.cdb[8])
        if length == 0 { return good(command) }
        if let answer = overrun(command, length) { return answer }
        if length < 8 { return check(command, [5, 0x1A, 0], moved: length) }
        var freed: [Int] = []
        for start in stride(from: 8, to: length - 15, by: 16) {
            let first = command.out[start..<start + 8].reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
            let count = command.out[start + 8..<start + 12].reduce(0) { $0 << 8 | Int($1) }
            guard count <= Self.blockCount, first <= UInt64(Self.blockCount - count) else {
                return check(command, [5, 0x21, 0], moved: length)
            }
            freed += Int(first)..<Int(first) + count
        }
        for block in freed {
            blocks[block] = [UInt8](repeating: 0, count: Self.blockSize)
            isAllocated[block] = false
        }
        return good(command, moved: length)
    }

    /// READ CAPACITY(16) and GET LBA STATUS.
    func blockStatus(_ command: Command) -> Answer {
        let allocation = command.cdb[10..<14].reduce(0) { $0 << 8 | Int($1) }
        if command.cdb[1] == 0x10 {
            let bytes =
                Self.bytes(UInt64(Self.blockCount - 1)) + [0, 0, 2, 0, 0, 0, 0xC0, 0]
                + [UInt8](repeating: 0, count: 16)
            return data(command, bytes, allocation: allocation)
        }
        let (first, _) = Self.extent(command.cdb)
        if first >= UInt64(Self.blockCount) { return check(command, [5, 0x21, 0]) }
        var bytes: [UInt8] = []
        var block = Int(first)
        let limit = min(64, max(1, (allocation - 8) / 16))
        while block < Self.blockCount, bytes.count < 16 * limit {
            let end =
                isAllocated[block...].firstIndex { $0 != isAllocated[block] } ?? Self.blockCount
            bytes += Self.bytes(UInt64(block)) + Self.bytes(UInt64(end - block), 4)
            bytes += [isAllocated[block] ? 0 : 1, 0, 0, 0]
            block = end
        }
        return data(
            command, Self.bytes(UInt64(bytes.count + 4), 4) + [0, 0, 0, 0] + bytes,
            allocation: allocation)
    }
}
