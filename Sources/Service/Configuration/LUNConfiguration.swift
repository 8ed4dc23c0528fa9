// SPDX-License-Identifier: Apache-2.0

public import BlockStorage
import ISCSIBackstore

/// One logical unit: where the guest finds it and what lies behind it.
public struct LUNConfiguration: Equatable, Sendable {
    /// Targets of one device: 0 to this number (virtio 1.3 §5.6.4, max_target).
    public static let maximumTarget = 255
    /// Logical units of a target: 0 to this number (virtio 1.3 §5.6.4, max_lun).
    public static let maximumLUN = 16383

    public var target: Int
    public var lun: Int
    /// A file or block device; empty for a unit at an iSCSI target.
    public var path: String
    /// The iSCSI target, where the unit is at one.
    public var iSCSI: ISCSIConfiguration?
    public var isReadOnly: Bool
    /// Bytes a logical block.
    public var blockSize: Int
    /// How a disk looks to the guest.
    public var disk = DiskConfiguration()
    /// How much the guest may ask of it; of a file or block device only.
    public var limits = StoreLimits()

    public init(
        target: Int, lun: Int, path: String, isReadOnly: Bool = false, blockSize: Int = 512,
        iSCSI: ISCSIConfiguration? = nil
    ) {
        self.target = target
        self.lun = lun
        self.path = path
        self.isReadOnly = isReadOnly
        self.blockSize = blockSize
        self.iSCSI = iSCSI
    }
}

/// One `--lun` as it was written: a path alone, or `key=value` pairs and flags between commas.
///
/// In the second form a comma within a value is written twice, as QEMU has it.
public struct LUNSpecification: Equatable, Sendable {
    /// Nil when it was left out: the place is then chosen by `resolve`.
    public var target: Int?
    public var lun: Int?
    public var path: String
    public var isReadOnly = false
    public var blockSize = 512
    public private(set) var disk = DiskConfiguration()
    public var limits = StoreLimits()
    public private(set) var iSCSI: ISCSIConfiguration?
    private var iSCSIKeys = ISCSISpecification()
    /// A key that is of use to files and block devices only.
    private var fileKey: String?
    /// What a message about the whole of it begins with.
    public private(set) var place = "--lun"
    /// Where it was written, as a comment.
    private(set) var origin = "--lun"

    /// Reads a specification.
    ///
    /// - Parameter text: for example `disk.img` or `target=1,lun=3,path=/dev/vg/data,readonly`.
    /// - Throws: which key is wrong, and what would be right.
    public init(_ text: String) throws(ConfigurationError) {
        path = ""
        // What an error shows must not hold a secret.
        let shown = "--lun " + ISCSIURL.withoutSecret(text)
        try Self.checkKeysBehindPath(text, specification: shown)
        if text.hasPrefix("iscsi://") {
            try iSCSIKeys.apply(key: "iscsi", value: text, specification: shown)
            iSCSI = try iSCSIKeys.configuration(specification: shown)
            return
        }
        guard Self.hasKeys(text) else {
            guard !text.isEmpty else { throw .missingPath(specification: shown) }
            path = text
            return
        }
        var seen: Set<String> = []
        for item in Self.split(text) {
            let (key, value) = Self.keyAndValue(item)
            guard seen.insert(key).inserted else {
                throw .repeatedKey(key, specification: shown)
            }
            try apply(key: key, value: value, specification: shown)
        }
        try finish(specification: shown)
    }

    /// Takes a table of a file, which has the same keys.
    init(_ table: TOMLDocument.Table, path filePath: String) throws(ConfigurationError) {
        path = ""
        place = "\(filePath):\(table.line): \(table.name)"
        origin = "\(filePath):\(table.line)"
        for entry in table.entries {
            let place = "\(filePath):\(entry.line): \(table.name)"
            try apply(
                key: entry.key, value: try Self.text(of: entry, specification: place),
                specification: place)
        }
        try finish(specification: place)
    }

    private mutating func finish(specification: String) throws(ConfigurationError) {
        iSCSI = try iSCSIKeys.configuration(specification: specification)
        guard path.isEmpty || iSCSI == nil else { throw .twoSources(specification: specification) }
        guard !path.isEmpty || iSCSI != nil else {
            throw .missingPath(specification: specification)
        }
        if iSCSI != nil, let fileKey { throw .fileKey(fileKey, specification: specification) }
        guard !disk.isShared || disk.reservationsPath != nil else {
            throw .missingKey("reservations", companion: "shared", specification: specification)
        }
        if limits.operationBurst != nil, limits.operationsPerSecond == nil {
            throw .missingKey("iops", companion: "iops-burst", specification: specification)
        }
        if limits.byteBurst != nil, limits.bytesPerSecond == nil {
            throw .missingKey(
                "bytes-per-second", companion: "bytes-burst", specification: specification)
        }
    }

    private mutating func apply(
        key: String, value: String?, specification: String
    ) throws(ConfigurationError) {
        if Self.fileKeys.contains(key) { fileKey = fileKey ?? key }
        switch key {
        case "target":
            target = try Self.number(key, value, LUNConfiguration.maximumTarget, specification)
        case "lun":
            lun = try Self.number(key, value, LUNConfiguration.maximumLUN, specification)
        case "path":
            guard let value, !value.isEmpty else {
                throw .missingPath(specification: specification)
            }
            path = value
        case "readonly":
            isReadOnly = try Self.flag(key, value, specification)
        case "block-size":
            guard let value, let size = Int(value), size == 512 || size == 4096 else {
                throw .illegalBlockSize(value ?? "", specification: specification)
            }
            blockSize = size
        case "iops": limits.operationsPerSecond = try Self.rate(key, value, specification)
        case "iops-burst": limits.operationBurst = try Self.rate(key, value, specification)
        case "bytes-per-second": limits.bytesPerSecond = try Self.rate(key, value, specification)
        case "bytes-burst": limits.byteBurst = try Self.rate(key, value, specification)
        case _ where ISCSISpecification.keys.contains(key):
            try iSCSIKeys.apply(key: key, value: value, specification: specification)
        case _ where DiskConfiguration.keys.contains(key):
            try disk.apply(key: key, value: value, specification: specification)
        default:
            throw .unknownKey(key, specification: specification)
        }
    }

    /// Chooses the places that were left out.
    ///
    /// A specification without a target becomes LUN 0 of the lowest target that has no LUN, in the
    /// order of writing; with a target and no LUN, LUN 0 of it; with a LUN and no target, of
    /// target 0.
    ///
    /// - Returns: the logical units in the order of writing.
    /// - Throws: when two have the same place.
    public static func resolve(
        _ specifications: [LUNSpecification]
    ) throws(ConfigurationError) -> [LUNConfiguration] {
        var taken = Set(
            specifications.compactMap { $0.target ?? ($0.lun == nil ? nil : 0) })
        var places: Set<[Int]> = []
        var resolved: [LUNConfiguration] = []
        for specification in specifications {
            var target = specification.target ?? 0
            if specification.target == nil, specification.lun == nil {
                guard
                    let free = (0...LUNConfiguration.maximumTarget).first(where: {
                        !taken.contains($0)
                    })
                else { throw .tooManyTargets(limit: LUNConfiguration.maximumTarget + 1) }
                target = free
                taken.insert(free)
            }
            let lun = specification.lun ?? 0
            guard places.insert([target, lun]).inserted else {
                throw .repeatedLUN(target: target, lun: lun, place: specification.place)
            }
            resolved.append(specification.configuration(target: target, lun: lun))
        }
        return resolved
    }

    /// Chooses the place of one more unit, by the same rules as `resolve`.
    func place(amid taken: Set<UnitPlace>) throws(ConfigurationError) -> LUNConfiguration {
        var target = self.target ?? 0
        if self.target == nil, lun == nil {
            let targets = Set(taken.map(\.target))
            guard
                let free = (0...LUNConfiguration.maximumTarget).first(where: {
                    !targets.contains($0)
                })
            else { throw .tooManyTargets(limit: LUNConfiguration.maximumTarget + 1) }
            target = free
        }
        let configuration = configuration(target: target, lun: lun ?? 0)
        guard !taken.contains(UnitPlace(target: target, lun: lun ?? 0)) else {
            throw .takenPlace(target: target, lun: lun ?? 0)
        }
        return configuration
    }

    private func configuration(target: Int, lun: Int) -> LUNConfiguration {
        var configuration = LUNConfiguration(
            target: target, lun: lun, path: path, isReadOnly: isReadOnly, blockSize: blockSize,
            iSCSI: iSCSI)
        configuration.disk = disk
        configuration.limits = limits
        return configuration
    }
}

// MARK: Tables

extension LUNSpecification {
    /// Keys that are whole numbers in a file.
    private static let numberKeys: Set<String> = [
        "target", "lun", "block-size", "replacement-timeout", "iops", "iops-burst",
        "bytes-per-second", "bytes-burst", "physical-block-size",
    ]
    /// Keys that are true or false in a file.
    private static let flagKeys: Set<String> = ["readonly", "required", "removable", "shared"]

    /// The value as it stands behind `key=` on a command line; every other key is a string.
    private static func text(
        of entry: TOMLDocument.Entry, specification: String
    ) throws(ConfigurationError) -> String {
        let isKnown = keys.contains(entry.key)
        switch entry.value {
        case .integer(let number) where numberKeys.contains(entry.key): return "\(number)"
        case .boolean(let isOn) where flagKeys.contains(entry.key): return isOn ? "on" : "off"
        case .string(let text)
        where !numberKeys.contains(entry.key) && !flagKeys.contains(entry.key):
            return text
        case _ where !isKnown:
            throw .unknownKey(entry.key, specification: specification)
        default:
            let wanted =
                numberKeys.contains(entry.key)
                ? "a whole number" : flagKeys.contains(entry.key) ? "true or false" : "a string"
            throw .wrongType(
                flag: "\(specification).\(entry.key)", given: entry.value.kind, wanted: wanted)
        }
    }
}

// MARK: Parsing

extension LUNSpecification {
    static let keys = fileKeys.union(ISCSISpecification.keys)
        .union(["target", "lun", "path", "readonly"])
    private static let fileKeys = Set(
        DiskConfiguration.keys + [
            "block-size", "iops", "iops-burst", "bytes-per-second", "bytes-burst",
        ])

    /// Refuses a path or URL with keys behind it, of which all would be taken for the path.
    private static func checkKeysBehindPath(
        _ text: String, specification: String
    ) throws(ConfigurationError) {
        let isURL = text.hasPrefix("iscsi://")
        let items = split(text)
        guard isURL || !hasKeys(text), items.count > 1,
            items.dropFirst().contains(where: { keys.contains(keyAndValue($0).key) })
        else { return }
        throw .keysBehindPath(
            (isURL ? "iscsi=" : "path=") + ISCSIURL.withoutSecret(text),
            specification: specification)
    }

    /// Whether the text is pairs rather than a path: its first item is a known key, or looks like a
    /// key that was mistyped (letters before the first `=`, and no slash).
    private static func hasKeys(_ text: String) -> Bool {
        let first = text.prefix { $0 != "," }
        if keys.contains(String(first)) && text.contains(",") { return true }
        guard let equals = first.firstIndex(of: "=") else { return false }
        return first[..<equals].allSatisfy { $0.isLetter || $0 == "-" }
    }

    /// Splits at single commas; a doubled comma stands for one.
    private static func split(_ text: String) -> [String] {
        var items: [String] = []
        var item = ""
        var characters = text.makeIterator()
        var next = characters.next()
        while let character = next {
            next = characters.next()
            if character != "," {
                item.append(character)
            } else if next == "," {
                item.append(",")
                next = characters.next()
            } else {
                items.append(item)
                item = ""
            }
        }
        return items + [item]
    }

    private static func keyAndValue(_ item: String) -> (key: String, value: String?) {
        guard let equals = item.firstIndex(of: "=") else { return (item, nil) }
        return (String(item[..<equals]), String(item[item.index(after: equals)...]))
    }

    static func number(
        _ key: String, _ value: String?, _ limit: Int, _ specification: String
    ) throws(ConfigurationError) -> Int {
        guard let value, let number = Int(value), (0...limit).contains(number) else {
            throw .numberOutOfRange(
                key: key, value: value ?? "", limit: limit, specification: specification)
        }
        return number
    }

    /// Reads how many a second, or at once: at least one.
    private static func rate(
        _ key: String, _ value: String?, _ specification: String
    ) throws(ConfigurationError) -> UInt64 {
        guard let value, let number = UInt64(value), (1...1 << 53).contains(number) else {
            throw .illegalRate(key: key, value: value ?? "", specification: specification)
        }
        return number
    }

    static func flag(
        _ key: String, _ value: String?, _ specification: String
    ) throws(ConfigurationError) -> Bool {
        switch value {
        case nil, "on", "true": return true
        case "off", "false": return false
        case .some(let value): throw .notAFlag(key: key, value: value, specification: specification)
        }
    }
}
