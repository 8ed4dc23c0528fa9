// SPDX-License-Identifier: Apache-2.0

/// What the first commands after a login tell about the logical unit.
public struct ISCSIUnitInformation: Equatable, Sendable {
    /// PERIPHERAL DEVICE TYPE (SPC-4, INQUIRY): 0 is a disk.
    public internal(set) var deviceType: UInt8 = 0
    /// T10 VENDOR IDENTIFICATION, PRODUCT IDENTIFICATION and PRODUCT REVISION LEVEL.
    public internal(set) var product = ""
    /// The designators of the logical unit (SPC-4, Device Identification VPD page), as hexadecimal
    /// digits, in order.
    public internal(set) var designators: [String] = []
    /// PRODUCT SERIAL NUMBER (SPC-4, Unit Serial Number VPD page).
    public internal(set) var serialNumber = ""
    /// How many blocks; nil when the unit does not say, or has no medium.
    public internal(set) var blockCount: UInt64?
    /// Bytes a block.
    public internal(set) var blockSize = 0

    /// Direct access, write once, optical and simplified direct access: blocks are addressed by
    /// number.
    var isBlockDevice: Bool { [0x00, 0x04, 0x05, 0x07, 0x0E].contains(deviceType) }

    /// What stays the same for as long as it is the same logical unit.
    var identity: String {
        if designators.isEmpty && serialNumber.isEmpty { return product }
        return (designators + ["serial \(serialNumber)"]).joined(separator: " ")
    }

    /// Reads standard INQUIRY data; false when no logical unit is connected there.
    mutating func takeInquiry(_ data: RawSpan) -> Bool {
        guard data.byteCount >= 36, Self.byte(data, 0) >> 5 == 0 else { return false }
        deviceType = Self.byte(data, 0) & 0x1F
        product = Self.text(data, 8..<36)
        return true
    }

    /// Reads the Device Identification VPD page, as far as it is about the logical unit.
    mutating func takeIdentification(_ data: RawSpan) {
        guard data.byteCount >= 4, Self.byte(data, 1) == 0x83 else { return }
        let end = min(data.byteCount, 4 + Int(Self.byte(data, 2)) << 8 + Int(Self.byte(data, 3)))
        var offset = 4
        var found: [String] = []
        while offset + 4 <= end {
            let length = Int(Self.byte(data, offset + 3))
            let next = offset + 4 + length
            if next > end { break }
            // ASSOCIATION 00b: the designator names the logical unit, not its port or its target.
            if Self.byte(data, offset + 1) & 0x30 == 0 {
                found.append(Self.hexadecimal(data, offset..<next))
            }
            offset = next
        }
        designators = found.sorted()
    }

    /// Reads the Unit Serial Number VPD page.
    mutating func takeSerialNumber(_ data: RawSpan) {
        guard data.byteCount >= 4, Self.byte(data, 1) == 0x80 else { return }
        serialNumber = Self.text(data, 4..<min(data.byteCount, 4 + Int(Self.byte(data, 3))))
    }

    /// Reads READ CAPACITY(16) or, when it is shorter, READ CAPACITY(10) data.
    mutating func takeCapacity(_ data: RawSpan) {
        let width = data.byteCount >= 12 ? 8 : 4
        guard data.byteCount >= width + 4 else { return }
        let last = Self.number(data, 0..<width)
        blockSize = Int(Self.number(data, width..<width + 4))
        blockCount = last == .max ? nil : last + 1
    }

    private static func byte(_ data: RawSpan, _ index: Int) -> UInt8 {
        // SAFETY: the span checks the offset; every bit pattern is a UInt8.
        unsafe data.unsafeLoad(fromByteOffset: index, as: UInt8.self)
    }

    private static func number(_ data: RawSpan, _ range: Range<Int>) -> UInt64 {
        range.reduce(0) { $0 << 8 | UInt64(byte(data, $1)) }
    }

    private static func text(_ data: RawSpan, _ range: Range<Int>) -> String {
        var text = ""
        for index in range {
            let byte = byte(data, index)
            text.unicodeScalars.append(
                (0x20..<0x7F).contains(byte) ? Unicode.Scalar(byte) : " ")
        }
        return text.split(separator: " ").joined(separator: " ")
    }

    private static func hexadecimal(_ data: RawSpan, _ range: Range<Int>) -> String {
        range.map { index in
            let byte = byte(data, index)
            return String(byte >> 4, radix: 16) + String(byte & 0xF, radix: 16)
        }.joined()
    }
}
