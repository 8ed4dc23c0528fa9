// SPDX-License-Identifier: Apache-2.0

extension Disk {
    /// Commands of every kind of logical unit (SPC-4).
    static let primaryOperations: [Operation] = [
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
            "MODE SELECT(6)", OperationCode.modeSelect6, usage: [0x11, 0, 0, 0xFF, 0],
            reservation: .writes
        ) { $0.modeSelect6($1) },
        Operation(
            "MODE SENSE(6)", OperationCode.modeSense6, usage: [0x08, 0xFF, 0xFF, 0xFF, 0],
            reservation: .reads
        ) { $0.modeSense6($1) },
        Operation(
            "MODE SELECT(10)", OperationCode.modeSelect10,
            usage: [0x11, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0], reservation: .writes
        ) { $0.modeSelect10($1) },
        Operation(
            "MODE SENSE(10)", OperationCode.modeSense10,
            usage: [0x18, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0], reservation: .reads
        ) { $0.modeSense10($1) },
        Operation(
            "LOG SENSE", OperationCode.logSense,
            usage: [0, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0], reservation: .reads
        ) { $0.logSense($1) },
        Operation(
            "SEND DIAGNOSTIC", OperationCode.sendDiagnostic, usage: [0x14, 0, 0, 0, 0],
            reservation: .writes
        ) { $0.sendDiagnostic($1) },
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
}
