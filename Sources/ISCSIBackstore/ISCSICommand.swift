// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// A command on its way to the target.
@safe public struct ISCSICommand {
    /// Which way the data goes, seen from the initiator.
    public enum Direction: Int32, Equatable, Sendable {
        case none, read, write
    }

    /// Names the command to its owner.
    public var token: UInt64
    /// Bytes 0 to 7 of the CDB, the first the most significant.
    var firstCDBWord: UInt64
    /// Bytes 8 to 15 of the CDB; those past the end of a shorter one are zero.
    var secondCDBWord: UInt64
    public var direction: Direction
    /// Bytes to be moved: the expected data transfer length, at most `maximumByteCount`.
    public var byteCount: Int
    /// The memory to be filled or sent, valid and mapped until the owner is called; together at
    /// least `byteCount` bytes.
    ///
    /// Without it a read is gathered by the library and handed over when the command ends.
    public var pieces: IOVectorSlice?

    /// The largest expected data transfer length that libiscsi takes.
    public static let maximumByteCount = Int(Int32.max)

    /// The order of submission.
    var sequence: UInt64 = 0
    /// Times that the command itself broke the connection.
    var failureCount: UInt8 = 0
    /// What the session itself asked for; the owner's commands have none.
    var purpose = Purpose.owner

    /// Who is to be told how the command ended.
    enum Purpose: UInt8, Equatable {
        case owner, inquiry, identification, serialNumber, capacity, attentionPoll
    }

    /// Makes a command of a CDB of at most 16 bytes.
    public init(
        token: UInt64, cdb: (UInt64, UInt64), direction: Direction = .none, byteCount: Int = 0,
        pieces: IOVectorSlice? = nil
    ) {
        precondition(byteCount <= Self.maximumByteCount, "the library counts in 31 bits")
        self.token = token
        firstCDBWord = cdb.0
        secondCDBWord = cdb.1
        self.direction = direction
        self.byteCount = byteCount
        self.pieces = pieces
    }

    /// Byte 0 of the CDB.
    var operationCode: UInt8 { UInt8(truncatingIfNeeded: firstCDBWord >> 56) }

    /// Whether doing the command twice, from the first to the last of its kind in order, leaves
    /// the medium and the nexus as doing it once does.
    ///
    /// Blocks of a block device are addressed by number; on other devices a medium that moves makes
    /// every access differ from the one before.
    func mayBeRepeated(isBlockDevice: Bool) -> Bool {
        Self.harmlessOperations.contains(operationCode)
            || isBlockDevice && Self.repeatableBlockOperations.contains(operationCode)
    }

    /// TEST UNIT READY, REQUEST SENSE, INQUIRY, MODE SENSE, START STOP UNIT, PREVENT ALLOW, READ
    /// CAPACITY, READ DEFECT DATA, LOG SENSE, PERSISTENT RESERVE IN, SERVICE ACTION IN(16),
    /// REPORT LUNS, MAINTENANCE IN.
    private static let harmlessOperations = OperationSet([
        0x00, 0x03, 0x12, 0x1A, 0x1B, 0x1E, 0x25, 0x37, 0x4D, 0x5A, 0x5E, 0x9E, 0xA0, 0xA3, 0xB7,
    ])

    /// READ and WRITE, PRE-FETCH, SYNCHRONIZE CACHE, VERIFY, WRITE AND VERIFY, WRITE SAME, UNMAP.
    private static let repeatableBlockOperations = OperationSet([
        0x08, 0x0A, 0x28, 0x2A, 0x2E, 0x2F, 0x34, 0x35, 0x41, 0x42, 0x88, 0x8A, 0x8E, 0x8F, 0x90,
        0x91, 0x93, 0xA8, 0xAA, 0xAE, 0xAF,
    ])

    /// 256 bits.
    private struct OperationSet: Sendable {
        private var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

        init(_ operations: [UInt8]) {
            for operation in operations {
                let bit = UInt64(1) << UInt64(operation % 64)
                switch operation / 64 {
                case 0: words.0 |= bit
                case 1: words.1 |= bit
                case 2: words.2 |= bit
                default: words.3 |= bit
                }
            }
        }

        func contains(_ operation: UInt8) -> Bool {
            let word =
                switch operation / 64 {
                case 0: words.0
                case 1: words.1
                case 2: words.2
                default: words.3
                }
            return word >> UInt64(operation % 64) & 1 == 1
        }
    }
}

/// How a command ended.
public enum ISCSIOutcome: Equatable, Sendable {
    /// The target answered, with this SAM status.
    case answered(status: UInt8, ISCSIResidual)
    /// Ended by task management.
    case aborted
    /// The session broke with the command at the target, which may or may not have done it; doing
    /// it again is not ours to decide.
    case nexusLost
    /// The session stayed away for longer than the replacement timeout.
    case transportFailed
    /// The library could not take it.
    case refused
}

/// How much less or more data there was than expected.
public enum ISCSIResidual: Equatable, Sendable {
    case none
    /// So many of the expected bytes were not moved.
    case underflow(Int)
    /// So many bytes more would have been moved.
    case overflow(Int)
}
