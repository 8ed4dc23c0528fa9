// SPDX-License-Identifier: Apache-2.0

/// What has to be known of commands that pass through.
enum PassThrough {
    static let reportLUNs: UInt8 = 0xA0
    /// Operation code 7Eh: an extended CDB.
    static let extendedCDB: UInt8 = 0x7E
    /// Operation code 7Fh: a CDB of up to 260 bytes.
    static let variableLengthCDB: UInt8 = 0x7F

    /// INQUIRY, REPORT LUNS and REQUEST SENSE are executed with a unit attention pending
    /// (SAM-5, Unit attention conditions).
    static func ignoresAttentions(_ operation: UInt8) -> Bool {
        operation == 0x12 || operation == reportLUNs || operation == 0x03
    }

    /// Whether a command is known not to change the medium: TEST UNIT READY, REQUEST SENSE, READ,
    /// INQUIRY, RESERVE and RELEASE, MODE SENSE, START STOP UNIT, PREVENT ALLOW, READ CAPACITY,
    /// VERIFY, PRE-FETCH, SYNCHRONIZE CACHE, READ DEFECT DATA, LOG SENSE, PERSISTENT RESERVE IN and
    /// OUT, SERVICE ACTION IN(16), MAINTENANCE IN.
    static func leavesMediumAlone(_ operation: UInt8) -> Bool {
        switch operation {
        case 0x00, 0x03, 0x08, 0x12, 0x16, 0x17, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x2F, 0x34, 0x35,
            0x37, 0x4D, 0x56, 0x57, 0x5A, 0x5E, 0x5F, 0x88, 0x8F, 0x90, 0x91, 0x9E, 0xA3, 0xA8,
            0xAF,
            0xB7:
            true
        default: false
        }
    }

    /// Where the DEVICE-SPECIFIC PARAMETER stands in the data of MODE SENSE(6) and (10).
    static func parameterOffset(_ operation: UInt8) -> Int? {
        switch operation {
        case 0x1A: 2
        case 0x5A: 3
        default: nil
        }
    }
}
