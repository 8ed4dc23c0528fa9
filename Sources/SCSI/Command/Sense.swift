// SPDX-License-Identifier: Apache-2.0

/// What kind of thing went wrong (SPC-4, Sense key).
public enum SenseKey: UInt8, Sendable {
    case noSense = 0x0
    case recoveredError = 0x1
    case notReady = 0x2
    case mediumError = 0x3
    case hardwareError = 0x4
    case illegalRequest = 0x5
    case unitAttention = 0x6
    case dataProtect = 0x7
    case copyAborted = 0xA
    case abortedCommand = 0xB
    case miscompare = 0xE
}

/// Why a command ended with CHECK CONDITION, or what a logical unit has to say otherwise.
public struct Sense: Equatable, Sendable {
    /// How sense data is laid out (SPC-4, Sense data).
    public enum Format: Sendable { case fixed, descriptor }

    /// Where in the CDB or in the parameter list the illegal field is.
    public struct FieldPointer: Equatable, Sendable {
        /// Whether the field is one of the CDB, and not one of the parameter list.
        public var isInCDB: Bool
        /// The field's first byte.
        public var byte: UInt16
        /// The field's most significant bit in that byte; nil when the field is whole bytes.
        public var bit: UInt8?
    }

    public var key: SenseKey
    public var additional: AdditionalSense
    /// A block address or an offset, as the command defines it.
    public var information: UInt64?
    public var fieldPointer: FieldPointer?
    /// How far a long operation has come, in 65536ths.
    public var progress: UInt16?

    public init(_ key: SenseKey, _ additional: AdditionalSense, information: UInt64? = nil) {
        self.key = key
        self.additional = additional
        self.information = information
    }

    /// An illegal field of the CDB.
    public static func invalidFieldInCDB(byte: Int, bit: UInt8? = nil) -> Sense {
        var sense = Sense(.illegalRequest, .invalidFieldInCDB)
        sense.fieldPointer = FieldPointer(isInCDB: true, byte: UInt16(byte), bit: bit)
        return sense
    }

    /// An illegal field of the parameter list.
    public static func invalidFieldInParameterList(byte: Int, bit: UInt8? = nil) -> Sense {
        var sense = Sense(.illegalRequest, .invalidFieldInParameterList)
        sense.fieldPointer = FieldPointer(
            isInCDB: false, byte: UInt16(truncatingIfNeeded: byte), bit: bit)
        return sense
    }

    /// The sense data as the initiator reads it.
    public func bytes(_ format: Format) -> [UInt8] {
        switch format {
        case .fixed: fixedBytes
        case .descriptor: descriptorBytes
        }
    }

    /// Fixed format sense data: 18 bytes.
    private var fixedBytes: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 18)
        bytes[0] = 0x70
        bytes[2] = key.rawValue
        bytes[7] = 10
        bytes[12] = additional.code
        bytes[13] = additional.qualifier
        if let information, let value = UInt32(exactly: information) {
            bytes[0] |= 0x80
            bytes.setBigEndian(value, at: 3)
        }
        if let specific = keySpecificBytes { bytes.replaceSubrange(15..<18, with: specific) }
        return bytes
    }

    /// Descriptor format sense data: 8 bytes and the descriptors.
    private var descriptorBytes: [UInt8] {
        var bytes: [UInt8] = [
            0x72, key.rawValue, additional.code, additional.qualifier, 0, 0, 0, 0,
        ]
        if let information {
            bytes += [0x00, 0x0A, 0x80, 0x00]
            bytes.appendBigEndian(information)
        }
        if let specific = keySpecificBytes {
            bytes += [0x02, 0x06, 0x00, 0x00]
            bytes += specific
            bytes.append(0)
        }
        bytes[7] = UInt8(bytes.count - 8)
        return bytes
    }

    /// The three bytes of the sense-key-specific field.
    private var keySpecificBytes: [UInt8]? {
        if let pointer = fieldPointer {
            let command: UInt8 = pointer.isInCDB ? 0x40 : 0
            let bit: UInt8 = pointer.bit.map { 0x08 | $0 } ?? 0
            return [0x80 | command | bit, UInt8(pointer.byte >> 8), UInt8(pointer.byte & 0xFF)]
        }
        if let progress { return [0x80, UInt8(progress >> 8), UInt8(progress & 0xFF)] }
        return nil
    }
}
