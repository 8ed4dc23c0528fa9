// SPDX-License-Identifier: Apache-2.0

/// A SCSI target device of the bus: one port, and logical units behind it.
///
/// Lives on its device's thread.
public final class Target {
    /// The target's number on the bus.
    public let number: UInt8
    /// The initiator that reaches it.
    public let initiator: InitiatorPort
    /// The units by their numbers.
    private(set) var units: [LUN: ITLNexus] = [:]
    /// What answers for numbers that no unit has.
    private(set) var absent: ITLNexus?
    private(set) var wellKnown: ITLNexus?

    init(number: UInt8, initiator: InitiatorPort) {
        self.number = number
        self.initiator = initiator
        absent = ITLNexus(target: self, lun: nil, unit: AbsentLogicalUnit())
        wellKnown = ITLNexus(target: self, lun: nil, unit: ReportLUNsLogicalUnit())
    }

    /// The relative identifier of the target's one port (SPC-4, Relative target port identifier).
    public var relativePort: UInt16 { UInt16(number) + 1 }

    /// The numbers of the units, ascending.
    public var luns: [LUN] { units.keys.sorted() }

    /// The ways to every unit that has a number.
    var paths: [ITLNexus] { Array(units.values) }

    func insert(_ unit: any LogicalUnit, at lun: LUN) -> ITLNexus {
        let path = ITLNexus(target: self, lun: lun, unit: unit)
        units[lun] = path
        return path
    }

    func remove(at lun: LUN) -> ITLNexus? {
        units.removeValue(forKey: lun)
    }

    /// The way that an address means.
    func path(to unit: LUNAddress.Unit) -> ITLNexus? {
        switch unit {
        case .lun(let lun): units[lun] ?? absent
        case .wellKnownReportLUNs: wellKnown
        case .unknownFormat: absent
        }
    }

    /// Lets the ways go, which hold the target in turn.
    func dismantle() -> [ITLNexus] {
        let all = paths + [absent, wellKnown].compactMap { $0 }
        units = [:]
        absent = nil
        wellKnown = nil
        return all
    }
}

/// Who sends commands: the port of an initiator, as the persistent reservations know it.
public struct InitiatorPort: Hashable, Sendable {
    /// A name that stays the same over restarts and that no other initiator has.
    public let name: String

    public init(name: String) {
        self.name = name
    }
}
