// SPDX-License-Identifier: Apache-2.0

/// SCSI writes numbers with the most significant byte first.
extension [UInt8] {
    /// Adds a number's bytes.
    mutating func appendBigEndian<Number: FixedWidthInteger & UnsignedInteger>(_ number: Number) {
        for shift in stride(from: Number.bitWidth - 8, through: 0, by: -8) {
            append(UInt8(truncatingIfNeeded: number >> Number(shift)))
        }
    }

    /// Overwrites bytes by a number; the array must reach that far.
    mutating func setBigEndian<Number: FixedWidthInteger & UnsignedInteger>(
        _ number: Number, at index: Int
    ) {
        for offset in 0..<Number.bitWidth / 8 {
            self[index + offset] = UInt8(
                truncatingIfNeeded: number >> Number(Number.bitWidth - 8 * (offset + 1)))
        }
    }

    /// The number whose bytes start at `index`; the array must reach that far.
    func bigEndian<Number: FixedWidthInteger & UnsignedInteger>(
        _ type: Number.Type, at index: Int
    ) -> Number {
        var number: Number = 0
        for byte in self[index..<index + Number.bitWidth / 8] {
            number = number << 8 | Number(byte)
        }
        return number
    }

    /// Adds text in a field of `byteCount` bytes: cut off or filled with spaces, bytes that are not
    /// printable ASCII replaced by spaces (SPC-4, ASCII data field requirements).
    mutating func appendField(_ text: String, byteCount: Int) {
        let printable = text.utf8.prefix(byteCount).map { (0x20...0x7E).contains($0) ? $0 : 0x20 }
        append(contentsOf: printable)
        append(contentsOf: repeatElement(0x20, count: byteCount - printable.count))
    }
}
