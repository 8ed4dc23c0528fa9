// SPDX-License-Identifier: Apache-2.0

extension Disk {
    /// Commands that reserve the disk (SPC-2, SPC-4).
    static let reservationOperations: [Operation] = [
        Operation(
            "RESERVE(6)", OperationCode.reserve6, usage: [0, 0, 0, 0, 0],
            reservation: .reads, requires: .soleService
        ) { $0.reserve($1) },
        Operation(
            "RELEASE(6)", OperationCode.release6, usage: [0, 0, 0, 0, 0],
            reservation: .alwaysAllowed, requires: .soleService
        ) { $0.release($1) },
        Operation(
            "RESERVE(10)", OperationCode.reserve10, usage: [0, 0, 0, 0, 0, 0, 0, 0, 0],
            reservation: .reads, requires: .soleService
        ) { $0.reserve($1) },
        Operation(
            "RELEASE(10)", OperationCode.release10, usage: [0, 0, 0, 0, 0, 0, 0, 0, 0],
            reservation: .alwaysAllowed, requires: .soleService
        ) { $0.release($1) },
        reserveIn("READ KEYS", 0x00) { $0.readReservationKeys($1) },
        reserveIn("READ RESERVATION", 0x01) { $0.readReservation($1) },
        reserveIn("REPORT CAPABILITIES", 0x02) { $0.reportReservationCapabilities($1) },
        reserveIn("READ FULL STATUS", 0x03) { $0.readFullReservationStatus($1) },
        reserveOut("REGISTER", .register),
        reserveOut("RESERVE", .reserve),
        reserveOut("RELEASE", .release),
        reserveOut("CLEAR", .clear),
        reserveOut("PREEMPT", .preempt),
        reserveOut("PREEMPT AND ABORT", .preemptAndAbort),
        reserveOut(
            "REGISTER AND IGNORE EXISTING KEY", .registerAndIgnoreExistingKey),
        reserveOut("REGISTER AND MOVE", .registerAndMove),
    ]

    private static func reserveIn(
        _ name: String, _ serviceAction: UInt8,
        execute: @escaping @Sendable (Disk, Execution) -> Void
    ) -> Operation {
        Operation(
            "PERSISTENT RESERVE IN, \(name)", OperationCode.persistentReserveIn, serviceAction,
            usage: [0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0], reservation: .allowedUnderPersistent,
            execute: execute)
    }

    /// Scope and type matter to some actions; the others ignore them, whatever they are.
    private static func reserveOut(_ name: String, _ action: ReserveOutAction) -> Operation {
        Operation(
            "PERSISTENT RESERVE OUT, \(name)", OperationCode.persistentReserveOut,
            action.rawValue, usage: [0, 0xFF, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0],
            reservation: .allowedUnderPersistent
        ) { $0.persistentReserveOut($1) }
    }
}
