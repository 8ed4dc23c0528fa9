// SPDX-License-Identifier: Apache-2.0

/// REPORT LUNS (SPC-4): which any logical unit of a target answers, present or not.
enum ReportLUNs {
    static func execute(_ index: Int, in commands: CommandTable, over path: ITLNexus) {
        let cdb = commands[index].cdb
        let allocationLength = Int(cdb.uint32(at: 6))
        if allocationLength < 16 {
            return commands.fail(index, .invalidFieldInCDB(byte: 6))
        }
        guard let list = list(select: cdb[2], target: path.target) else {
            return commands.fail(index, .invalidFieldInCDB(byte: 2))
        }
        for path in path.target.paths { path.clear(.reportedLUNsChanged) }
        var bytes: [UInt8] = []
        bytes.appendBigEndian(UInt32(8 * list.count))
        bytes.appendBigEndian(UInt32(0))
        for (high, low) in list { bytes += [high, low, 0, 0, 0, 0, 0, 0] }
        commands.succeed(index, with: bytes, allocationLength: allocationLength)
    }

    /// The first two bytes of each LUN that the SELECT REPORT field asks for.
    private static func list(select: UInt8, target: Target) -> [(UInt8, UInt8)]? {
        let luns = target.luns.map(\.bytes)
        let wellKnown: [(UInt8, UInt8)] = [(0xC1, 0x01)]
        switch select {
        case 0x00: return luns
        case 0x01: return wellKnown
        case 0x02: return wellKnown + luns
        default: return nil
        }
    }
}
