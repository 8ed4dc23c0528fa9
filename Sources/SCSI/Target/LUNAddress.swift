// SPDX-License-Identifier: Apache-2.0

/// The eight bytes by which virtio-scsi names a logical unit (virtio 1.3 §5.6.6.1): 1, the target,
/// and a single-level LUN (SAM-5, Single level LUN structure), as they stand in memory.
public struct LUNAddress: BitwiseCopyable, Hashable, Sendable {
    /// The bytes, the first in the lowest eight bits.
    public let rawValue: UInt64

    @inline(__always)
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// The address of a logical unit in the form that initiators compare with: peripheral below
    /// 256, flat from there on.
    public init(target: UInt8, lun: LUN) {
        let (high, low) = lun.bytes
        rawValue = 1 | UInt64(target) << 8 | UInt64(high) << 16 | UInt64(low) << 24
    }

    /// The address of the REPORT LUNS well-known logical unit of the whole bus.
    public static let wellKnownReportLUNs = LUNAddress(rawValue: 0x01C1)

    /// The bytes that count; the last four do not.
    @inline(__always)
    var key: UInt32 { UInt32(truncatingIfNeeded: rawValue) }

    /// The target; nil when the first byte does not announce one.
    public var target: UInt8? {
        UInt8(truncatingIfNeeded: rawValue) == 1 ? UInt8(truncatingIfNeeded: rawValue >> 8) : nil
    }

    /// What the third and the fourth byte say.
    public var unit: Unit {
        let high = UInt8(truncatingIfNeeded: rawValue >> 16)
        let low = UInt8(truncatingIfNeeded: rawValue >> 24)
        switch high {
        case 0x00: return .lun(LUN(rawValue: UInt16(low)))
        case 0x40...0x7F: return .lun(LUN(rawValue: UInt16(high & 0x3F) << 8 | UInt16(low)))
        case 0xC1 where low == 0x01: return .wellKnownReportLUNs
        default: return .unknownFormat
        }
    }

    /// What a single-level LUN structure names.
    public enum Unit: Equatable, Sendable {
        case lun(LUN)
        case wellKnownReportLUNs
        case unknownFormat
    }
}

/// A logical unit number of one level: 0 to 16383.
public struct LUN: Hashable, Comparable, Sendable {
    public let rawValue: UInt16

    /// The highest number that the flat format holds.
    public static let max: UInt16 = 16383

    /// A number; nil above 16383.
    public init?(_ number: Int) {
        guard (0...Int(Self.max)).contains(number) else { return nil }
        rawValue = UInt16(number)
    }

    init(rawValue: UInt16) {
        self.rawValue = rawValue
    }

    /// The first two bytes of its LUN structure: peripheral below 256, flat from there on.
    public var bytes: (UInt8, UInt8) {
        let low = UInt8(truncatingIfNeeded: rawValue)
        return rawValue < 256 ? (0, low) : (0x40 | UInt8(rawValue >> 8), low)
    }

    public static func < (left: LUN, right: LUN) -> Bool { left.rawValue < right.rawValue }
}
