// SPDX-License-Identifier: Apache-2.0

/// What a target says in sense data (SPC-4, Sense data): the parts that matter here.
struct SenseData: Equatable, CustomStringConvertible {
    let key: UInt8
    let code: UInt8
    let qualifier: UInt8

    /// UNIT ATTENTION.
    static let unitAttention: UInt8 = 0x6

    /// Reads fixed or descriptor format; nil when the bytes are neither.
    init?(_ bytes: [UInt8]) {
        switch bytes.first.map({ $0 & 0x7F }) {
        case 0x70, 0x71:
            guard bytes.count >= 3 else { return nil }
            key = bytes[2] & 0xF
            code = bytes.count > 12 ? bytes[12] : 0
            qualifier = bytes.count > 13 ? bytes[13] : 0
        case 0x72, 0x73:
            guard bytes.count >= 4 else { return nil }
            (key, code, qualifier) = (bytes[1] & 0xF, bytes[2], bytes[3])
        default: return nil
        }
    }

    /// The sense data in the data segment of a SCSI response: after two bytes with their length
    /// (RFC 7143 §11.4.7).
    static func bytes(ofResponse data: RawSpan) -> [UInt8] {
        guard data.byteCount > 2 else { return [] }
        // SAFETY: the span checks each offset; every bit pattern is a UInt8.
        func byte(_ index: Int) -> UInt8 {
            unsafe data.unsafeLoad(fromByteOffset: index, as: UInt8.self)
        }
        let length = Int(byte(0)) << 8 | Int(byte(1))
        return (2..<min(data.byteCount, 2 + length)).map { byte($0) }
    }

    var description: String {
        "sense key \(hexadecimal(key)), \(hexadecimal(code))/\(hexadecimal(qualifier))"
    }

    private func hexadecimal(_ byte: UInt8) -> String {
        let digits = String(byte, radix: 16, uppercase: true)
        return (digits.count < 2 ? "0" + digits : digits) + "h"
    }
}
