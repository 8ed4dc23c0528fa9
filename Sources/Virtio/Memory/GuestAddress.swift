// SPDX-License-Identifier: Apache-2.0

/// An address in the guest's physical memory.
public struct GuestAddress: Hashable, Comparable, Sendable {
    public let rawValue: UInt64

    public init(_ rawValue: UInt64) {
        self.rawValue = rawValue
    }

    public static func < (left: GuestAddress, right: GuestAddress) -> Bool {
        left.rawValue < right.rawValue
    }
}

extension GuestAddress: CustomStringConvertible {
    public var description: String { "0x\(String(rawValue, radix: 16))" }
}
