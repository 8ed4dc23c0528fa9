// SPDX-License-Identifier: Apache-2.0

/// Standard INQUIRY data (SPC-4): 96 bytes.
enum StandardInquiry {
    /// What a disk says of itself.
    static func bytes(of identity: DiskIdentity, isRemovable: Bool = false) -> [UInt8] {
        var bytes: [UInt8] = [
            0x00,  // connected, direct access block device
            isRemovable ? 0x80 : 0x00,
            0x06,  // SPC-4
            0x12,  // hierarchical LUNs, response data format 2
            91,  // bytes that follow
            0x08,  // third-party copies
            0x00,
            0x02,  // command queuing
        ]
        bytes.appendField(identity.vendor, byteCount: 8)
        bytes.appendField(identity.product, byteCount: 16)
        bytes.appendField(identity.revision, byteCount: 4)
        bytes += [UInt8](repeating: 0, count: 22)
        // SAM-5, SPC-4 and SBC-3, no version claimed.
        for standard: UInt16 in [0x00A0, 0x0460, 0x04C0] { bytes.appendBigEndian(standard) }
        return bytes + [UInt8](repeating: 0, count: 96 - bytes.count)
    }

    /// Answers for a number that no logical unit has.
    static func absent(_ index: Int, in commands: CommandTable) {
        answer(index, in: commands, peripheral: 0x7F)
    }

    /// Answers for a well-known logical unit.
    static func wellKnown(_ index: Int, in commands: CommandTable) {
        answer(index, in: commands, peripheral: 0x1E)
    }

    private static func answer(_ index: Int, in commands: CommandTable, peripheral: UInt8) {
        let cdb = commands[index].cdb
        if cdb[1] & ~(Operation.legacyLUNBits | 1) != 0 {
            return commands.fail(index, .invalidFieldInCDB(byte: 1))
        }
        // Neither has vital product data beyond the list of the pages.
        let wantsPage = cdb[1] & 1 != 0
        if cdb[2] != 0 { return commands.fail(index, .invalidFieldInCDB(byte: 2)) }
        var bytes = wantsPage ? [0, 0, 0, 1, 0] : bytes(of: DiskIdentity())
        bytes[0] = peripheral
        commands.succeed(index, with: bytes, allocationLength: Int(cdb.uint16(at: 3)))
    }
}
