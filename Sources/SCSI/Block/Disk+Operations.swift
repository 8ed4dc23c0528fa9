// SPDX-License-Identifier: Apache-2.0

extension Disk {
    /// Everything that a disk can do: commands are executed by this table, and REPORT SUPPORTED
    /// OPERATION CODES is made from it.
    static let operations: [Operation] =
        primaryOperations + reservationOperations + transferOperations + verifyOperations
        + blockOperations

    /// The rows of each operation code.
    static let operationsByCode: [[Operation]] = {
        var rows = [[Operation]](repeating: [], count: 256)
        for operation in operations { rows[Int(operation.code)].append(operation) }
        return rows
    }()

    /// READ and WRITE (SBC-3).
    private static let transferOperations: [Operation] = [
        Operation(
            "READ(6)", OperationCode.read6, usage: [0x1F, 0xFF, 0xFF, 0xFF, 0],
            access: .reads, reservation: .reads
        ) { $0.read($1) },
        Operation(
            "WRITE(6)", OperationCode.write6, usage: [0x1F, 0xFF, 0xFF, 0xFF, 0],
            access: .writes, reservation: .writes
        ) { $0.write($1) },
        Operation(
            "READ(10)", OperationCode.read10, usage: transfer10, access: .reads,
            reservation: .reads
        ) { $0.read($1) },
        Operation(
            "WRITE(10)", OperationCode.write10, usage: transfer10, access: .writes,
            reservation: .writes
        ) { $0.write($1) },
        Operation(
            "READ(12)", OperationCode.read12, usage: transfer12, access: .reads,
            reservation: .reads
        ) { $0.read($1) },
        Operation(
            "WRITE(12)", OperationCode.write12, usage: transfer12, access: .writes,
            reservation: .writes
        ) { $0.write($1) },
        Operation(
            "READ(16)", OperationCode.read16, usage: transfer16, access: .reads,
            reservation: .reads
        ) { $0.read($1) },
        Operation(
            "WRITE(16)", OperationCode.write16, usage: transfer16, access: .writes,
            reservation: .writes
        ) { $0.write($1) },
    ]

    /// Commands that compare (SBC-3).
    private static let verifyOperations: [Operation] = [
        Operation(
            "VERIFY(10)", OperationCode.verify10, usage: verify(transfer10), access: .reads,
            reservation: .reads
        ) { $0.verify($1) },
        Operation(
            "VERIFY(12)", OperationCode.verify12, usage: verify(transfer12), access: .reads,
            reservation: .reads
        ) { $0.verify($1) },
        Operation(
            "VERIFY(16)", OperationCode.verify16, usage: verify(transfer16), access: .reads,
            reservation: .reads
        ) { $0.verify($1) },
        Operation(
            "WRITE AND VERIFY(10)", OperationCode.writeAndVerify10, usage: verify(transfer10),
            access: .writes, reservation: .writes
        ) { $0.writeAndVerify($1) },
        Operation(
            "WRITE AND VERIFY(12)", OperationCode.writeAndVerify12, usage: verify(transfer12),
            access: .writes, reservation: .writes
        ) { $0.writeAndVerify($1) },
        Operation(
            "WRITE AND VERIFY(16)", OperationCode.writeAndVerify16, usage: verify(transfer16),
            access: .writes, reservation: .writes
        ) { $0.writeAndVerify($1) },
        Operation(
            "COMPARE AND WRITE", OperationCode.compareAndWrite,
            usage: [
                0x1A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0x3F, 0,
            ], access: .writes, reservation: .writes, requires: .soleService
        ) { $0.compareAndWrite($1) },
        Operation(
            "ORWRITE(16)", OperationCode.orWrite16, usage: transfer16, access: .writes,
            reservation: .writes, requires: .soleService
        ) { $0.orWrite($1) },
    ]

    /// The usage of a CDB of the READ kind, with DPO and BYTCHK in byte 1 instead.
    private static func verify(_ usage: [UInt8]) -> [UInt8] { [0x16] + usage.dropFirst() }

    /// DPO, FUA and FUA_NV; address; group number; length.
    static let transfer10: [UInt8] = [0x1A, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F, 0xFF, 0xFF, 0]
    static let transfer12: [UInt8] = [
        0x1A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F, 0,
    ]
    static let transfer16: [UInt8] = [
        0x1A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F, 0,
    ]

    /// The other commands of block devices (SBC-3).
    private static let blockOperations: [Operation] = [
        Operation(
            "READ CAPACITY(10)", OperationCode.readCapacity10,
            usage: [0, 0, 0, 0, 0, 0, 0, 0, 0], reservation: .allowedUnderPersistent
        ) { $0.readCapacity10($1) },
        Operation(
            "READ CAPACITY(16)", OperationCode.serviceActionIn16, 0x10,
            usage: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
            reservation: .allowedUnderPersistent
        ) { $0.readCapacity16($1) },
        Operation(
            "GET LBA STATUS", OperationCode.serviceActionIn16, 0x12,
            usage: [
                0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0,
            ], reservation: .reads
        ) { $0.getBlockStatus($1) },
        Operation(
            "START STOP UNIT", OperationCode.startStopUnit, usage: [0x01, 0, 0x0F, 0xF7, 0],
            reservation: .writes
        ) { $0.startStopUnit($1) },
        Operation(
            "PREVENT ALLOW MEDIUM REMOVAL", OperationCode.preventAllow,
            usage: [0, 0, 0, 0x03, 0], reservation: .writes
        ) { $0.preventRemoval($1) },
        Operation(
            "READ DEFECT DATA(10)", OperationCode.readDefectData10,
            usage: [0, 0x1F, 0, 0, 0, 0, 0xFF, 0xFF, 0], reservation: .reads
        ) { $0.readDefectData10($1) },
        Operation(
            "READ DEFECT DATA(12)", OperationCode.readDefectData12,
            usage: [0x1F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
            reservation: .reads
        ) { $0.readDefectData12($1) },
        Operation(
            "SYNCHRONIZE CACHE(10)", OperationCode.synchronizeCache10,
            usage: [0x06, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F, 0xFF, 0xFF, 0], reservation: .writes
        ) { $0.synchronizeCache($1) },
        Operation(
            "SYNCHRONIZE CACHE(16)", OperationCode.synchronizeCache16,
            usage: [
                0x06, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F,
                0,
            ], reservation: .writes
        ) { $0.synchronizeCache($1) },
        Operation(
            "PRE-FETCH(10)", OperationCode.preFetch10,
            usage: [0x02, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F, 0xFF, 0xFF, 0], reservation: .reads
        ) { $0.preFetch($1) },
        Operation(
            "PRE-FETCH(16)", OperationCode.preFetch16,
            usage: [
                0x02, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F,
                0,
            ], reservation: .reads
        ) { $0.preFetch($1) },
        Operation(
            "UNMAP", OperationCode.unmap, usage: [0, 0, 0, 0, 0, 0x3F, 0xFF, 0xFF, 0],
            access: .writes, reservation: .writes, requires: .thinProvisioning
        ) { $0.unmap($1) },
        sanitize("OVERWRITE", 0x01) { $0.overwriteBlocks($1) },
        sanitize("BLOCK ERASE", 0x02, requires: .both) { $0.eraseBlocks($1) },
        sanitize("EXIT FAILURE MODE", 0x1F) { $0.exitSanitizeFailure($1) },
        copyOut,
        copyIn("COPY STATUS", 0x00) { $0.reportCopyStatus($1) },
        copyIn("OPERATING PARAMETERS", 0x03) { $0.reportCopyParameters($1) },
        Operation(
            "WRITE SAME(10)", OperationCode.writeSame10,
            usage: [0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F, 0xFF, 0xFF, 0], access: .writes,
            reservation: .writes
        ) { $0.writeSame($1) },
        Operation(
            "WRITE SAME(16)", OperationCode.writeSame16,
            usage: [
                0x19, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F,
                0,
            ], access: .writes, reservation: .writes
        ) { $0.writeSame($1) },
    ]

    /// IMMED, AUSE, and the length of the parameter list.
    private static func sanitize(
        _ name: String, _ serviceAction: UInt8,
        requires requirement: Operation.Requirement = .soleService,
        execute: @escaping @Sendable (Disk, Execution) -> Void
    ) -> Operation {
        Operation(
            "SANITIZE, \(name)", OperationCode.sanitize, serviceAction,
            usage: [0xA0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0], access: .writes, reservation: .writes,
            requires: requirement, execute: execute)
    }

    private static let copyOut = Operation(
        "EXTENDED COPY(LID1)", OperationCode.thirdPartyCopyOut, 0x00,
        usage: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0], access: .writes,
        reservation: .writes
    ) { $0.extendedCopy($1) }

    private static func copyIn(
        _ name: String, _ serviceAction: UInt8,
        execute: @escaping @Sendable (Disk, Execution) -> Void
    ) -> Operation {
        Operation(
            "RECEIVE COPY RESULTS, \(name)", OperationCode.thirdPartyCopyIn, serviceAction,
            usage: [0, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
            reservation: .writes, execute: execute)
    }
}
