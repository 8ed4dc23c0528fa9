// SPDX-License-Identifier: Apache-2.0

import SCSI

/// The part of a logical unit's configuration that is about how its disk looks to the guest.
public struct DiskConfiguration: Equatable, Sendable {
    /// Bytes that the medium is said to write at once; nil for what it does.
    public var physicalBlockSize: Int?
    /// Whether the guest may eject the medium.
    public var isRemovable = false
    /// How the disk introduces itself; nil for what follows from its path.
    public var vendor: String?
    public var product: String?
    public var revision: String?
    public var serial: String?
    /// A designator of type NAA.
    public var worldWideName: [UInt8]?
    /// The file that persistent reservations and saved mode parameters are kept in.
    public var reservationsPath: String?
    /// Whether other services may have the disk at the same time; they all keep reservations in one
    /// file.
    public var isShared = false

    public init() {}

    /// How the disk introduces itself, that lies at a path.
    func identity(path: String) -> DiskIdentity {
        var identity = DiskIdentity(stableFrom: path)
        if let vendor { identity.vendor = vendor }
        if let product { identity.product = product }
        if let revision { identity.revision = revision }
        if let serial { identity.serial = serial }
        if let worldWideName { identity.worldWideName = worldWideName }
        return identity
    }
}

/// The keys about a disk in one `--lun`.
extension DiskConfiguration {
    /// In the order in which they are documented.
    static let keys = [
        "physical-block-size", "removable", "vendor", "product", "revision", "serial", "wwn",
        "reservations", "shared",
    ]
    private static let physicalBlockSizes = [512, 4096, 8192, 16384, 32768, 65536]

    /// Takes one key.
    mutating func apply(
        key: String, value: String?, specification: String
    ) throws(ConfigurationError) {
        if key == "removable" {
            isRemovable = try LUNSpecification.flag(key, value, specification)
        }
        if key == "shared" {
            isShared = try LUNSpecification.flag(key, value, specification)
        }
        let value = value ?? ""
        switch key {
        case "physical-block-size":
            guard let size = Int(value), Self.physicalBlockSizes.contains(size) else {
                throw .unknownValue(
                    key: key, value: value, known: Self.physicalBlockSizes.map { "\($0)" },
                    specification: specification)
            }
            physicalBlockSize = size
        case "vendor": vendor = try Self.text(key, value, limit: 8, specification)
        case "product": product = try Self.text(key, value, limit: 16, specification)
        case "revision": revision = try Self.text(key, value, limit: 4, specification)
        case "serial": serial = try Self.text(key, value, limit: 128, specification)
        case "reservations":
            guard !value.isEmpty else {
                throw .unknownValue(
                    key: key, value: value, known: ["paths of a file"],
                    specification: specification)
            }
            reservationsPath = value
        case "wwn": worldWideName = try Self.worldWideName(key, value, specification)
        default: break
        }
    }

    private static func text(
        _ key: String, _ value: String, limit: Int, _ specification: String
    ) throws(ConfigurationError) -> String {
        guard (1...limit).contains(value.utf8.count),
            value.utf8.allSatisfy({ (0x20...0x7E).contains($0) })
        else {
            throw .unknownValue(
                key: key, value: value, known: ["1 to \(limit) printable ASCII characters"],
                specification: specification)
        }
        return value
    }

    /// The bytes of a name of 16 digits (NAA 2h, 3h or 5h) or of 32 (NAA 6h).
    private static func worldWideName(
        _ key: String, _ value: String, _ specification: String
    ) throws(ConfigurationError) -> [UInt8] {
        let digits = value.hasPrefix("0x") ? value.dropFirst(2) : value[...]
        let kinds = digits.utf8.count == 16 ? "235" : digits.utf8.count == 32 ? "6" : ""
        let nibbles = digits.compactMap(\.hexDigitValue)
        guard let first = digits.first, kinds.contains(first), nibbles.count == digits.count else {
            throw .unknownValue(
                key: key, value: value,
                known: [
                    "16 hexadecimal digits that begin with 2, 3 or 5", "32 that begin with 6",
                ],
                specification: specification)
        }
        return stride(from: 0, to: nibbles.count, by: 2).map {
            UInt8(nibbles[$0] << 4 | nibbles[$0 + 1])
        }
    }
}
