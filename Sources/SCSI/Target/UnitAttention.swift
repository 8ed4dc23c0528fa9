// SPDX-License-Identifier: Apache-2.0

/// What has happened to a logical unit without an initiator's doing, most important first
/// (SAM-5, Unit attention conditions).
public enum UnitAttention: UInt8, CaseIterable, Sendable {
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    case powerOn
    /// BUS DEVICE RESET FUNCTION OCCURRED: a logical unit reset.
    case logicalUnitReset
    /// I_T NEXUS LOSS OCCURRED.
    case nexusLoss
    /// COMMANDS CLEARED BY ANOTHER INITIATOR.
    case commandsCleared
    /// REPORTED LUNS DATA HAS CHANGED.
    case reportedLUNsChanged
    /// NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED.
    case mediumChanged
    /// CAPACITY DATA HAS CHANGED.
    case capacityChanged
    /// MODE PARAMETERS CHANGED.
    case modeParametersChanged
    /// RESERVATIONS PREEMPTED.
    case reservationsPreempted
    /// RESERVATIONS RELEASED.
    case reservationsReleased
    /// REGISTRATIONS PREEMPTED.
    case registrationsPreempted

    /// What the initiator reads.
    public var additionalSense: AdditionalSense {
        switch self {
        case .powerOn: AdditionalSense(0x29, 0x00)
        case .logicalUnitReset: AdditionalSense(0x29, 0x03)
        case .nexusLoss: AdditionalSense(0x29, 0x07)
        case .commandsCleared: AdditionalSense(0x2F, 0x00)
        case .reportedLUNsChanged: AdditionalSense(0x3F, 0x0E)
        case .mediumChanged: AdditionalSense(0x28, 0x00)
        case .capacityChanged: AdditionalSense(0x2A, 0x09)
        case .modeParametersChanged: AdditionalSense(0x2A, 0x01)
        case .reservationsPreempted: AdditionalSense(0x2A, 0x03)
        case .reservationsReleased: AdditionalSense(0x2A, 0x04)
        case .registrationsPreempted: AdditionalSense(0x2A, 0x05)
        }
    }

    var sense: Sense { Sense(.unitAttention, additionalSense) }
}

/// The unit attention conditions that wait for an initiator: each once, in the order of importance.
public struct UnitAttentionSet: Equatable, Sendable {
    private var bits: UInt16 = 0

    @inline(__always)
    public var isEmpty: Bool { bits == 0 }

    /// Whether a condition waits.
    public func contains(_ attention: UnitAttention) -> Bool { bits & Self.bit(attention) != 0 }

    mutating func insert(_ attention: UnitAttention) { bits |= Self.bit(attention) }

    mutating func remove(_ attention: UnitAttention) { bits &= ~Self.bit(attention) }

    /// Takes the most important condition off.
    mutating func popFirst() -> UnitAttention? {
        guard let first = UnitAttention(rawValue: UInt8(bits.trailingZeroBitCount)) else {
            return nil
        }
        remove(first)
        return first
    }

    private static func bit(_ attention: UnitAttention) -> UInt16 {
        1 << UInt16(attention.rawValue)
    }
}
