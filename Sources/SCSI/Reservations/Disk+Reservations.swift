// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// Who else may use the disk (SPC-2, RESERVE and RELEASE; SPC-4, Persistent reservations).
extension Disk {
    /// Whether another nexus's reservation forbids a command.
    func conflictsWithReservation(_ operation: Operation, _ execution: Execution) -> Bool {
        if !execution.path.isRestricted { return false }
        if let holder = reservedFor, holder !== execution.path {
            switch operation.reservation {
            case .alwaysAllowed: return false
            case .allowedUnderPersistent, .reads, .writes: return true
            }
        }
        return reservations.forbid(operation.reservation, to: execution.path.reservationNexus)
    }

    /// To be called whenever a reservation, or something else that keeps commands off, comes or goes.
    func restrictionsChanged() {
        gateKeeper?.close()
        var isRestricted = isMediumEjected
        if case .idle = sanitizing {} else { isRestricted = true }
        state.value.isRestricted = isRestricted
        for path in paths { path.isRestricted = mayConflict(path) }
    }

    /// Whether a reservation may keep commands of a nexus off.
    private func mayConflict(_ path: ITLNexus) -> Bool {
        if let holder = reservedFor, holder !== path { return true }
        return reservations.forbid(.writes, to: path.reservationNexus)
    }

    /// RESERVE (6) and (10): the unit for this nexus alone, until it is lost or the unit is reset.
    func reserve(_ execution: Execution) {
        // A registration may be on its way.
        guard changingCommands.isEmpty else {
            return taskSet.wait(execution.index, in: execution.commands)
        }
        // Persistent reservations in use exclude these (SPC-4, CRH 0).
        guard reservations.registrations.isEmpty else {
            return execution.commands.end(execution.index, status: .reservationConflict)
        }
        reservedFor = execution.path
        restrictionsChanged()
        execution.succeed()
    }

    /// RELEASE (6) and (10): of a reservation that another nexus holds, nothing happens.
    func release(_ execution: Execution) {
        guard reservations.registrations.isEmpty else {
            return execution.commands.end(execution.index, status: .reservationConflict)
        }
        if reservedFor === execution.path { endReservation() }
        execution.succeed()
    }

    /// The reservation of RESERVE ends.
    func endReservation() {
        reservedFor = nil
        restrictionsChanged()
    }
}

extension ITLNexus {
    /// What persistent reservations know of the nexus.
    var reservationNexus: PersistentReservations.Nexus {
        PersistentReservations.Nexus(
            initiator: target.initiator, relativePort: target.relativePort)
    }
}
