// SPDX-License-Identifier: Apache-2.0

/// Reservations as SPC-2 and SPC-4 have them, for nexuses that are numbers: what the disk is compared
/// with, written from the standards' tables and not from the disk.
struct ModelReservations {
    /// How the presence of another nexus's reservation bears on a command (SPC-4 and SBC-3, Commands
    /// that are allowed in the presence of various reservations): a letter for each row of the tables.
    enum Row: Character {
        /// INQUIRY and its like.
        case always = "a"
        /// Refused by RESERVE only.
        case spc2 = "2"
        /// Refused where Exclusive Access is reserved.
        case read = "r"
        /// Refused where anything is reserved.
        case write = "w"
    }

    var reservedBy: Int?
    var generation: UInt32 = 0
    /// In the order of registration.
    var keys: [(nexus: Int, key: UInt64)] = []
    var type: UInt8?
    var holder: Int?

    /// Of the six types, those that let registrants do more than others, that all registrants hold,
    /// and that keep readers out.
    static let registrants: Set<UInt8> = [5, 6, 7, 8]
    static let all: Set<UInt8> = [7, 8]
    static let exclusiveAccess: Set<UInt8> = [3, 6, 8]

    func key(of nexus: Int) -> UInt64? { keys.first { $0.nexus == nexus }?.key }

    func holds(_ nexus: Int) -> Bool {
        guard let type else { return false }
        return Self.all.contains(type) ? key(of: nexus) != nil : holder == nexus
    }

    func conflicts(_ row: Row, _ nexus: Int) -> Bool {
        if let reservedBy, reservedBy != nexus, row != .always { return true }
        guard let type, !holds(nexus) else { return false }
        if Self.registrants.contains(type), key(of: nexus) != nil { return false }
        switch row {
        case .always, .spc2: return false
        case .read: return Self.exclusiveAccess.contains(type)
        case .write: return true
        }
    }

    /// What PERSISTENT RESERVE OUT comes to.
    enum Result: Equatable {
        case good
        case conflict
        case sense([UInt8])
    }

    /// What another nexus is told: the additional sense code qualifier of 2Ah.
    typealias Notice = (nexus: Int, qualifier: UInt8)

    mutating func reserveOut(
        _ action: UInt8, _ nexus: Int, key: UInt64, actionKey: UInt64, type wanted: UInt8
    ) -> (Result, [Notice]) {
        switch action {
        case 0, 6: return register(nexus, key: action == 6 ? nil : key, actionKey)
        case _ where self.key(of: nexus) != key: return (.conflict, [])
        case 1: return (reserve(nexus, wanted), [])
        case 2: return release(nexus, wanted)
        case 3: return (.good, clear(nexus))
        default: return preempt(nexus, actionKey, wanted)
        }
    }

    private func others(_ nexus: Int, _ qualifier: UInt8) -> [Notice] {
        keys.filter { $0.nexus != nexus }.map { ($0.nexus, qualifier) }
    }

    private mutating func register(
        _ nexus: Int, key: UInt64?, _ newKey: UInt64
    ) -> (Result, [Notice]) {
        guard let index = keys.firstIndex(where: { $0.nexus == nexus }) else {
            if key != nil && key != 0 { return (.conflict, []) }
            if newKey != 0 {
                keys.append((nexus, newKey))
                generation += 1
            }
            return (.good, [])
        }
        if key != nil && key != keys[index].key { return (.conflict, []) }
        generation += 1
        if newKey != 0 {
            keys[index].key = newKey
            return (.good, [])
        }
        let held = holds(nexus)
        keys.remove(at: index)
        guard let type, held else { return (.good, []) }
        if Self.all.contains(type) {
            if keys.isEmpty { self.type = nil }
            return (.good, [])
        }
        self.type = nil
        return (.good, Self.registrants.contains(type) ? others(nexus, 4) : [])
    }

    private mutating func reserve(_ nexus: Int, _ wanted: UInt8) -> Result {
        if let type { return holds(nexus) && type == wanted ? .good : .conflict }
        type = wanted
        holder = nexus
        return .good
    }

    private mutating func release(_ nexus: Int, _ wanted: UInt8) -> (Result, [Notice]) {
        guard let type, holds(nexus) else { return (.good, []) }
        guard type == wanted else { return (.sense([5, 0x26, 0x04]), []) }
        self.type = nil
        return (.good, Self.registrants.contains(type) ? others(nexus, 4) : [])
    }

    private mutating func clear(_ nexus: Int) -> [Notice] {
        let told = others(nexus, 3)
        keys = []
        type = nil
        generation += 1
        return told
    }

    private mutating func preempt(
        _ nexus: Int, _ victim: UInt64, _ wanted: UInt8
    ) -> (Result, [Notice]) {
        let isAll = type.map(Self.all.contains) ?? false
        let holdersKey = isAll ? 0 : holder.flatMap(key(of:))
        guard let type, holdersKey == victim else {
            if victim == 0 { return (.sense([5, 0x26, 0]), []) }
            guard keys.contains(where: { $0.key == victim }) else { return (.conflict, []) }
            let gone = keys.filter { $0.nexus != nexus && $0.key == victim }
            keys.removeAll { $0.nexus != nexus && $0.key == victim }
            generation += 1
            return (.good, gone.map { ($0.nexus, 5) })
        }
        let gone = keys.filter { $0.nexus != nexus && (isAll || $0.key == victim) }
        keys.removeAll { $0.nexus != nexus && (isAll || $0.key == victim) }
        generation += 1
        self.type = wanted
        holder = nexus
        var told = gone.map { (nexus: $0.nexus, qualifier: UInt8(5)) }
        if type != wanted && Self.registrants.contains(type) { told += others(nexus, 4) }
        return (.good, told)
    }
}
