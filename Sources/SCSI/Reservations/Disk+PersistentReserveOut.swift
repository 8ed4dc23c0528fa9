// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// PERSISTENT RESERVE OUT (SPC-4).
extension Disk {
    /// The service actions.
    enum ReserveOutAction: UInt8 {
        case register = 0x00
        case reserve = 0x01
        case release = 0x02
        case clear = 0x03
        case preempt = 0x04
        case preemptAndAbort = 0x05
        case registerAndIgnoreExistingKey = 0x06
        case registerAndMove = 0x07
    }

    /// The parameter list of every action but REGISTER AND MOVE.
    private struct ReserveOutParameters {
        let key: UInt64
        let actionKey: UInt64
        let persists: Bool
    }

    func persistentReserveOut(_ execution: Execution) {
        let cdb = execution.cdb
        guard let action = ReserveOutAction(rawValue: cdb.serviceAction) else {
            return execution.fail(.invalidFieldInCDB(byte: 1, bit: 4))
        }
        let length = Int(cdb.uint32(at: 5))
        guard action == .registerAndMove ? (24...1024).contains(length) : length == 24 else {
            return execution.fail(Sense(.illegalRequest, .parameterListLengthError))
        }
        guard let list = execution.parameterList(byteCount: length) else { return }
        if reservedFor != nil {
            return execution.commands.end(execution.index, status: .reservationConflict)
        }
        if action == .registerAndMove { return registerAndMove(list, execution) }
        // SPEC_I_PT and ALL_TG_PT: neither is supported.
        if list[20] & 0x08 != 0 {
            return execution.fail(.invalidFieldInParameterList(byte: 20, bit: 3))
        }
        if list[20] & 0x04 != 0 {
            return execution.fail(.invalidFieldInParameterList(byte: 20, bit: 2))
        }
        let persists = list[20] & 0x01 != 0
        if persists && !canPersistReservations {
            return execution.fail(.invalidFieldInParameterList(byte: 20, bit: 0))
        }
        let parameters = ReserveOutParameters(
            key: list.bigEndian(UInt64.self, at: 0),
            actionKey: list.bigEndian(UInt64.self, at: 8), persists: persists)
        perform(action, parameters, execution)
    }

    private func perform(
        _ action: ReserveOutAction, _ parameters: ReserveOutParameters, _ execution: Execution
    ) {
        let nexus = execution.path.reservationNexus
        let key = parameters.key
        let kind = PersistentReservations.Kind(rawValue: execution.cdb[2] & 0x0F)
        let hasKind = action == .reserve || action == .preempt || action == .preemptAndAbort
        // The scope is the logical unit, and the type one of the six.
        if hasKind || action == .release, execution.cdb[2] >> 4 != 0 || (hasKind && kind == nil) {
            return execution.fail(.invalidFieldInCDB(byte: 2, bit: kind == nil ? 3 : 7))
        }
        var victims: [PersistentReservations.Nexus] = []
        var changed = reservations
        let outcome: PersistentReservations.Outcome
        switch action {
        case .register:
            outcome = changed.register(nexus, key: key, newKey: parameters.actionKey)
        case .registerAndIgnoreExistingKey:
            outcome = changed.register(nexus, key: nil, newKey: parameters.actionKey)
        case .reserve:
            outcome = kind.map { changed.reserve(nexus, key: key, kind: $0) } ?? .conflict
        case .release: outcome = changed.release(nexus, key: key, kind: kind)
        case .clear: outcome = changed.clear(nexus, key: key)
        case .preempt, .preemptAndAbort:
            victims = changed.nexuses(under: parameters.actionKey, except: nexus)
            outcome = changed.preempt(
                nexus, key: key, victim: parameters.actionKey, kind: kind)
        case .registerAndMove: outcome = .conflict
        }
        if action == .register || action == .registerAndIgnoreExistingKey {
            changed.persists = parameters.persists
        }
        conclude(execution, outcome, changed) { [self] in
            if action == .preemptAndAbort { abortCommands(of: victims, execution) }
        }
    }

    private func registerAndMove(_ list: [UInt8], _ execution: Execution) {
        let idLength = Int(list.bigEndian(UInt32.self, at: 20))
        guard idLength >= 24, idLength <= list.count - 24 else {
            return execution.fail(.invalidFieldInParameterList(byte: 20))
        }
        let id = Array(list[24..<24 + idLength])
        let port = list.bigEndian(UInt16.self, at: 18)
        // A nexus that cannot reach the unit now could not use the reservation either.
        guard
            let other = paths.map(\.reservationNexus).first(where: {
                $0.relativePort == port && $0.initiator.transportID == id
            })
        else { return execution.fail(.invalidFieldInParameterList(byte: 24)) }
        var changed = reservations
        let outcome = changed.move(
            from: execution.path.reservationNexus, key: list.bigEndian(UInt64.self, at: 0),
            to: other, newKey: list.bigEndian(UInt64.self, at: 8),
            unregisters: list[17] & 0x02 != 0)
        changed.persists = list[17] & 0x01 != 0
        if changed.persists && !canPersistReservations {
            return execution.fail(.invalidFieldInParameterList(byte: 17, bit: 0))
        }
        conclude(execution, outcome, changed) {}
    }

    /// Takes a change over, tells whom it concerns, and ends the command.
    private func conclude(
        _ execution: Execution, _ outcome: PersistentReservations.Outcome,
        _ changed: PersistentReservations, then body: () -> Void
    ) {
        switch outcome {
        case .invalid(let sense): execution.fail(sense)
        case .conflict: execution.commands.end(execution.index, status: .reservationConflict)
        case .done(let notices):
            let concernsKeeper = changed.persists || reservations.persists
            if concernsKeeper && changed != reservations && !keep(changed, savedModes) {
                return execution.fail(Sense(.hardwareError, .internalTargetFailure))
            }
            reservations = changed
            restrictionsChanged()
            for notice in notices {
                for path in paths where path.reservationNexus == notice.nexus {
                    path.raise(notice.attention)
                }
            }
            body()
            execution.succeed()
        }
    }

    private func abortCommands(
        of victims: [PersistentReservations.Nexus], _ execution: Execution
    ) {
        for index in execution.commands.commands(in: taskSet) where index != execution.index {
            let isVictim = execution.commands[index].path?.with {
                victims.contains($0.reservationNexus)
            }
            if isVictim == true {
                execution.commands.abort(index, response: .aborted, for: nil)
            }
        }
    }
}
