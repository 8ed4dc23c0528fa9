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
    fileprivate struct ReserveOutParameters {
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
        let kind = PersistentReservations.Kind(rawValue: execution.cdb[2] & 0x0F)
        let hasKind = action == .reserve || action == .preempt || action == .preemptAndAbort
        // The scope is the logical unit, and the type one of the six.
        if hasKind || action == .release, execution.cdb[2] >> 4 != 0 || (hasKind && kind == nil) {
            return execution.fail(.invalidFieldInCDB(byte: 2, bit: kind == nil ? 3 : 7))
        }
        let nexus = execution.path.reservationNexus
        changeReservations(execution) {
            $0.perform(action, parameters, kind, by: nexus)
        }
    }

    private func registerAndMove(_ list: [UInt8], _ execution: Execution) {
        let idLength = Int(list.bigEndian(UInt32.self, at: 20))
        guard idLength >= 24, idLength <= list.count - 24 else {
            return execution.fail(.invalidFieldInParameterList(byte: 20))
        }
        let id = Array(list[24..<24 + idLength])
        let port = list.bigEndian(UInt16.self, at: 18)
        let persists = list[17] & 0x01 != 0
        if persists && !canPersistReservations {
            return execution.fail(.invalidFieldInParameterList(byte: 17, bit: 0))
        }
        let reachable = paths.map(\.reservationNexus)
        let nexus = execution.path.reservationNexus
        let (key, newKey) = (
            list.bigEndian(UInt64.self, at: 0), list.bigEndian(UInt64.self, at: 8)
        )
        let unregisters = list[17] & 0x02 != 0
        changeReservations(execution) { reservations in
            // A nexus that cannot reach the unit now could not use the reservation either; of
            // those at other services the registered ones can.
            let known = reachable + reservations.registrations.map(\.nexus)
            guard
                let other = known.first(where: {
                    $0.relativePort == port && $0.initiator.transportID == id
                })
            else { return (.invalid(.invalidFieldInParameterList(byte: 24)), []) }
            let outcome = reservations.move(
                from: nexus, key: key, to: other, newKey: newKey, unregisters: unregisters)
            reservations.persists = persists
            return (outcome, [])
        }
    }

    /// How the reservations are changed, and whose commands are to be aborted then.
    private typealias Change = (
        outcome: PersistentReservations.Outcome, victims: [PersistentReservations.Nexus]
    )

    /// Changes the reservations unless the outcome forbids it, and ends the command.
    private func changeReservations(
        _ execution: Execution,
        _ change: @escaping @Sendable (inout PersistentReservations) -> Change
    ) {
        self.change(for: execution) { state in
            var changed = state.reservations
            let change = change(&changed)
            if case .done(let notices) = change.outcome {
                state.reservations = changed
                state.tell(notices)
            }
            return change
        } then: { [self] change in
            switch change.outcome {
            case .invalid(let sense): execution.fail(sense)
            case .conflict: execution.commands.end(execution.index, status: .reservationConflict)
            case .done:
                abortCommands(of: change.victims, execution)
                execution.succeed()
            }
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

extension PersistentReservations {
    /// Does what a service action asks, other than REGISTER AND MOVE.
    ///
    /// - Returns: what became of it, and the nexuses whose commands PREEMPT AND ABORT aborts.
    fileprivate mutating func perform(
        _ action: Disk.ReserveOutAction, _ parameters: Disk.ReserveOutParameters, _ kind: Kind?,
        by nexus: Nexus
    ) -> (Outcome, [Nexus]) {
        let key = parameters.key
        switch action {
        case .register, .registerAndIgnoreExistingKey:
            let outcome = register(
                nexus, key: action == .register ? key : nil, newKey: parameters.actionKey)
            persists = parameters.persists
            return (outcome, [])
        case .reserve: return (kind.map { reserve(nexus, key: key, kind: $0) } ?? .conflict, [])
        case .release: return (release(nexus, key: key, kind: kind), [])
        case .clear: return (clear(nexus, key: key), [])
        case .preempt, .preemptAndAbort:
            let victims = nexuses(under: parameters.actionKey, except: nexus)
            let outcome = preempt(nexus, key: key, victim: parameters.actionKey, kind: kind)
            return (outcome, action == .preemptAndAbort ? victims : [])
        case .registerAndMove: return (.conflict, [])
        }
    }
}
