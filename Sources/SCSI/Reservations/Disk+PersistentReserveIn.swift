// SPDX-License-Identifier: Apache-2.0

/// PERSISTENT RESERVE IN (SPC-4).
extension Disk {
    func readReservationKeys(_ execution: Execution) {
        answer(
            execution,
            with: reservations.registrations.flatMap { registration in
                var bytes: [UInt8] = []
                bytes.appendBigEndian(registration.key)
                return bytes
            })
    }

    func readReservation(_ execution: Execution) {
        var bytes: [UInt8] = []
        if let reservation = reservations.reservation {
            bytes.appendBigEndian(keyOfReservation)
            bytes += [0, 0, 0, 0, 0, reservation.kind.rawValue, 0, 0]
        }
        answer(execution, with: bytes)
    }

    /// The holder's key; none where all registrants hold the unit.
    private var keyOfReservation: UInt64 {
        guard let reservation = reservations.reservation, !reservation.kind.isHeldByAll else {
            return 0
        }
        return reservations.registration(of: reservation.holder)?.key ?? 0
    }

    func reportReservationCapabilities(_ execution: Execution) {
        let persists: UInt8 = canPersistReservations ? 0x01 : 0
        let activated: UInt8 = reservations.persists ? 0x01 : 0
        // The type mask is valid, and has all six types.
        let bytes: [UInt8] = [0, 8, persists, 0x80 | activated, 0xEA, 0x01, 0, 0]
        execution.succeed(with: bytes, allocationLength: allocationLength(execution))
    }

    func readFullReservationStatus(_ execution: Execution) {
        var bytes: [UInt8] = []
        for registration in reservations.registrations {
            let isHolder = reservations.isHolder(registration.nexus)
            bytes.appendBigEndian(registration.key)
            bytes += [0, 0, 0, 0, isHolder ? 0x01 : 0]
            bytes.append(isHolder ? reservations.reservation?.kind.rawValue ?? 0 : 0)
            bytes += [0, 0, 0, 0]
            bytes.appendBigEndian(registration.nexus.relativePort)
            let transportID = registration.nexus.initiator.transportID
            bytes.appendBigEndian(UInt32(transportID.count))
            bytes += transportID
        }
        answer(execution, with: bytes)
    }

    /// Data with the generation and their length before them.
    private func answer(_ execution: Execution, with data: [UInt8]) {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(reservations.generation)
        bytes.appendBigEndian(UInt32(data.count))
        execution.succeed(with: bytes + data, allocationLength: allocationLength(execution))
    }

    private func allocationLength(_ execution: Execution) -> Int {
        Int(execution.cdb.uint16(at: 7))
    }
}

extension InitiatorPort {
    /// The port's name in the format that iSCSI has for names (SPC-4, TransportID for initiator
    /// ports using SCSI over iSCSI, format 00b): virtio has none of its own.
    var transportID: [UInt8] {
        var text = Array(name.utf8.prefix(220)) + [0]
        text += [UInt8](repeating: 0, count: max(20, (text.count + 3) / 4 * 4) - text.count)
        var bytes: [UInt8] = [0x05, 0x00]
        bytes.appendBigEndian(UInt16(text.count))
        return bytes + text
    }
}
