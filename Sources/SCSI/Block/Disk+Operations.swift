// SPDX-License-Identifier: Apache-2.0

extension Disk {
    /// Everything that a disk can do: commands are executed by this table, and REPORT SUPPORTED
    /// OPERATION CODES is made from it.
    static let operations: [Operation] = primaryOperations + transferOperations + blockOperations

    /// Commands of every kind of logical unit (SPC-4).
    private static let primaryOperations: [Operation] = [
        Operation(
            "TEST UNIT READY", OperationCode.testUnitReady, usage: [0, 0, 0, 0, 0],
            reservation: .allowedUnderPersistent
        ) { $0.testUnitReady($1) },
        Operation(
            "REQUEST SENSE", OperationCode.requestSense, usage: [0x01, 0, 0, 0xFF, 0],
            reservation: .alwaysAllowed, yieldsToUnitAttention: false
        ) { $0.requestSense($1) },
        Operation(
            "INQUIRY", OperationCode.inquiry, usage: [0x01, 0xFF, 0xFF, 0xFF, 0],
            reservation: .alwaysAllowed, yieldsToUnitAttention: false
        ) { $0.inquire($1) },
        Operation(
            "MODE SELECT(6)", OperationCode.modeSelect6, usage: [0x10, 0, 0, 0xFF, 0],
            reservation: .writes
        ) { $0.modeSelect6($1) },
        Operation(
            "MODE SENSE(6)", OperationCode.modeSense6, usage: [0x08, 0xFF, 0xFF, 0xFF, 0],
            reservation: .reads
        ) { $0.modeSense6($1) },
        Operation(
            "MODE SELECT(10)", OperationCode.modeSelect10,
            usage: [0x10, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0], reservation: .writes
        ) { $0.modeSelect10($1) },
        Operation(
            "MODE SENSE(10)", OperationCode.modeSense10,
            usage: [0x18, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0], reservation: .reads
        ) { $0.modeSense10($1) },
        Operation(
            "REPORT LUNS", OperationCode.reportLUNs,
            usage: [0, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
            reservation: .alwaysAllowed, yieldsToUnitAttention: false
        ) { ReportLUNs.execute($1.index, in: $1.commands, over: $1.path) },
        Operation(
            "REPORT SUPPORTED OPERATION CODES", OperationCode.maintenanceIn, 0x0C,
            usage: [0, 0x87, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
            reservation: .allowedUnderPersistent
        ) { $0.reportSupportedOperations($1) },
        Operation(
            "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", OperationCode.maintenanceIn, 0x0D,
            usage: [0, 0x80, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
            reservation: .allowedUnderPersistent
        ) { $0.reportSupportedTaskManagement($1) },
    ]

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
            "START STOP UNIT", OperationCode.startStopUnit, usage: [0x01, 0, 0x0F, 0xF7, 0],
            reservation: .writes
        ) { $0.startStopUnit($1) },
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
}
