// SPDX-License-Identifier: Apache-2.0

/// Persistent reservations of one logical unit (SPC-4, Persistent reservations): who registered
/// which key, and who holds the unit how.
///
/// An I_T nexus registers a key. A registered nexus may reserve the unit; what the others may do
/// then depends on the type. Registrations survive resets and the loss of a nexus; they end when
/// the nexus gives its key up, when somebody clears or preempts them, and, unless they are asked
/// to persist, when the last service that has the unit ends.
struct PersistentReservations: Equatable, Sendable {
    /// An initiator port and the port of the target that it comes through.
    struct Nexus: Hashable {
        let initiator: InitiatorPort
        let relativePort: UInt16
    }

    struct Registration: Equatable {
        let nexus: Nexus
        var key: UInt64
    }

    /// How the unit is held (SPC-4, Persistent reservation type codes).
    enum Kind: UInt8, CaseIterable {
        case writeExclusive = 0x1
        case exclusiveAccess = 0x3
        case writeExclusiveRegistrantsOnly = 0x5
        case exclusiveAccessRegistrantsOnly = 0x6
        case writeExclusiveAllRegistrants = 0x7
        case exclusiveAccessAllRegistrants = 0x8

        /// Whether every registrant holds the unit.
        var isHeldByAll: Bool {
            self == .writeExclusiveAllRegistrants || self == .exclusiveAccessAllRegistrants
        }

        /// Whether registrants may do what the others may not.
        var favoursRegistrants: Bool {
            self != .writeExclusive && self != .exclusiveAccess
        }

        /// Whether even readers are kept out.
        var excludesReaders: Bool {
            self == .exclusiveAccess || self == .exclusiveAccessRegistrantsOnly
                || self == .exclusiveAccessAllRegistrants
        }
    }

    struct Reservation: Equatable {
        var kind: Kind
        /// Who reserved; of no meaning where all registrants hold the unit.
        var holder: Nexus
    }

    /// Counts the changes of the registrations.
    private(set) var generation: UInt32 = 0
    /// In the order in which they registered.
    private(set) var registrations: [Registration] = []
    private(set) var reservation: Reservation?
    /// APTPL: whether registrations outlive the services.
    var persists = false

    init() {}

    /// What was kept.
    init(
        generation: UInt32, registrations: [Registration], reservation: Reservation?,
        persists: Bool
    ) {
        self.generation = generation
        self.registrations = registrations
        self.reservation = reservation
        self.persists = persists && !registrations.isEmpty
    }

    /// The unit's power comes back after it was lost.
    mutating func powerOn() {
        self = PersistentReservations(
            generation: 0, registrations: persists ? registrations : [],
            reservation: persists ? reservation : nil, persists: persists)
    }

    /// What became of a PERSISTENT RESERVE OUT command.
    enum Outcome: Equatable {
        case done([Notice])
        case conflict
        case invalid(Sense)
    }

    /// What another nexus has to be told.
    struct Notice: Equatable {
        let nexus: Nexus
        let attention: UnitAttention
    }

    // MARK: Looking

    func registration(of nexus: Nexus) -> Registration? {
        registrations.first { $0.nexus == nexus }
    }

    /// Whether a nexus holds the unit.
    func isHolder(_ nexus: Nexus) -> Bool {
        guard let reservation else { return false }
        if reservation.kind.isHeldByAll { return registration(of: nexus) != nil }
        return reservation.holder == nexus
    }

    /// Whether the reservation keeps a nexus from a command.
    func forbid(_ rule: Operation.ReservationRule, to nexus: Nexus) -> Bool {
        guard let reservation, !isHolder(nexus) else { return false }
        if reservation.kind.favoursRegistrants && registration(of: nexus) != nil { return false }
        switch rule {
        case .alwaysAllowed, .allowedUnderPersistent: return false
        case .reads: return reservation.kind.excludesReaders
        case .writes: return true
        }
    }

    // MARK: Registering

    /// REGISTER, and REGISTER AND IGNORE EXISTING KEY when `key` is nil.
    mutating func register(_ nexus: Nexus, key: UInt64?, newKey: UInt64) -> Outcome {
        guard let old = registration(of: nexus) else {
            if let key, key != 0 { return .conflict }
            if newKey == 0 { return .done([]) }
            registrations.append(Registration(nexus: nexus, key: newKey))
            generation &+= 1
            return .done([])
        }
        if let key, key != old.key { return .conflict }
        generation &+= 1
        if newKey == 0 { return .done(unregister(nexus)) }
        for index in registrations.indices where registrations[index].nexus == nexus {
            registrations[index].key = newKey
        }
        return .done([])
    }

    /// Removes a registration, and with the holder's the reservation.
    private mutating func unregister(_ nexus: Nexus) -> [Notice] {
        registrations.removeAll { $0.nexus == nexus }
        guard let reservation else { return [] }
        if reservation.kind.isHeldByAll {
            if registrations.isEmpty { self.reservation = nil }
            return []
        }
        guard reservation.holder == nexus else { return [] }
        self.reservation = nil
        guard reservation.kind.favoursRegistrants else { return [] }
        return notices(.reservationsReleased, except: nexus)
    }

    /// REGISTER AND MOVE: another nexus is registered and takes the reservation over.
    mutating func move(
        from nexus: Nexus, key: UInt64, to other: Nexus, newKey: UInt64, unregisters: Bool
    ) -> Outcome {
        guard registration(of: nexus)?.key == key, let reservation else { return .conflict }
        if reservation.kind.isHeldByAll || !isHolder(nexus) { return .conflict }
        guard newKey != 0 else { return .invalid(.invalidFieldInParameterList(byte: 8)) }
        guard other != nexus else { return .invalid(.invalidFieldInParameterList(byte: 24)) }
        if let index = registrations.firstIndex(where: { $0.nexus == other }) {
            registrations[index].key = newKey
        } else {
            registrations.append(Registration(nexus: other, key: newKey))
        }
        self.reservation?.holder = other
        if unregisters { registrations.removeAll { $0.nexus == nexus } }
        generation &+= 1
        return .done([])
    }

    // MARK: Reserving

    mutating func reserve(_ nexus: Nexus, key: UInt64, kind: Kind) -> Outcome {
        guard registration(of: nexus)?.key == key else { return .conflict }
        guard let reservation else {
            self.reservation = Reservation(kind: kind, holder: nexus)
            return .done([])
        }
        return isHolder(nexus) && reservation.kind == kind ? .done([]) : .conflict
    }

    mutating func release(_ nexus: Nexus, key: UInt64, kind: Kind?) -> Outcome {
        guard registration(of: nexus)?.key == key else { return .conflict }
        guard let reservation, isHolder(nexus) else { return .done([]) }
        guard reservation.kind == kind else {
            return .invalid(Sense(.illegalRequest, .invalidRelease))
        }
        self.reservation = nil
        guard reservation.kind.favoursRegistrants else { return .done([]) }
        return .done(notices(.reservationsReleased, except: nexus))
    }

    mutating func clear(_ nexus: Nexus, key: UInt64) -> Outcome {
        guard registration(of: nexus)?.key == key else { return .conflict }
        let told = notices(.reservationsPreempted, except: nexus)
        registrations = []
        reservation = nil
        generation &+= 1
        return .done(told)
    }

    // MARK: Preempting

    /// PREEMPT, and the reservation's part of PREEMPT AND ABORT.
    mutating func preempt(
        _ nexus: Nexus, key: UInt64, victim: UInt64, kind: Kind?
    ) -> Outcome {
        guard registration(of: nexus)?.key == key else { return .conflict }
        guard let old = reservation, isHeld(old, under: victim) else {
            return removeRegistrations(under: victim, by: nexus)
        }
        guard let kind else { return .invalid(.invalidFieldInCDB(byte: 2, bit: 3)) }
        // All registrants' reservation goes with key 0, and with it every other registration.
        let isAll = old.kind.isHeldByAll
        let removed = registrations.filter { $0.nexus != nexus && (isAll || $0.key == victim) }
        registrations.removeAll { $0.nexus != nexus && (isAll || $0.key == victim) }
        reservation = Reservation(kind: kind, holder: nexus)
        generation &+= 1
        var told = removed.map { Notice(nexus: $0.nexus, attention: .registrationsPreempted) }
        if old.kind != kind && old.kind.favoursRegistrants {
            told += notices(.reservationsReleased, except: nexus)
        }
        return .done(told)
    }

    /// Whether a key means the reservation's holder.
    private func isHeld(_ reservation: Reservation, under key: UInt64) -> Bool {
        if reservation.kind.isHeldByAll { return key == 0 }
        return registration(of: reservation.holder)?.key == key
    }

    private mutating func removeRegistrations(
        under victim: UInt64, by nexus: Nexus
    ) -> Outcome {
        if victim == 0 { return .invalid(.invalidFieldInParameterList(byte: 8)) }
        let found = registrations.filter { $0.key == victim }
        if found.isEmpty { return .conflict }
        let removed = found.filter { $0.nexus != nexus }
        registrations.removeAll { $0.nexus != nexus && $0.key == victim }
        generation &+= 1
        return .done(removed.map { Notice(nexus: $0.nexus, attention: .registrationsPreempted) })
    }

    /// The nexuses registered under a key other than one.
    func nexuses(under key: UInt64, except nexus: Nexus) -> [Nexus] {
        let isAll = key == 0 && reservation?.kind.isHeldByAll == true
        return registrations.filter { $0.nexus != nexus && (isAll || $0.key == key) }.map(\.nexus)
    }

    private func notices(_ attention: UnitAttention, except nexus: Nexus) -> [Notice] {
        registrations.filter { $0.nexus != nexus }.map {
            Notice(nexus: $0.nexus, attention: attention)
        }
    }
}
