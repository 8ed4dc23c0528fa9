// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import ISCSIBackstore

extension ConfigurationDraft {
    /// The whole configuration as a file has it, defaults included, each value with its origin.
    ///
    /// It can be read as a file again, but for a secret that stood in a URL, which is left out.
    ///
    /// - Parameter configuration: what `configuration()` returned.
    /// - Returns: the text of a file.
    public func effective(_ configuration: ServiceConfiguration) -> String {
        var text = ""
        var table = ""
        for key in ConfigurationKey.all {
            guard let line = line(for: key) else { continue }
            if key.table != table {
                text += "\n[\(key.table)]\n"
                table = key.table
            }
            text += line + "\n"
        }
        for (unit, specification) in zip(configuration.scsi?.luns ?? [], units) {
            text += "\n[[\(Self.unitTable)]]  # \(specification.origin)\n"
            for (key, value) in unit.entries { text += "\(key) = \(value.text)\n" }
        }
        return text
    }

    /// Nil for a key that has no value.
    private func line(for key: ConfigurationKey) -> String? {
        if let setting = settings[key.name] {
            let value = Self.value(setting.values, kind: key.kind)
            return "\(key.shortName) = \(value.text)  # \(setting.place.origin)"
        }
        return key.fallback.map { "\(key.shortName) = \($0.text)  # default" }
    }

    private static func value(_ texts: [String], kind: ConfigurationKey.Kind) -> TOMLValue {
        let text = texts.first ?? ""
        switch kind {
        case .text, .choice: return .string(text)
        case .number: return Int64(text).map { .integer($0) } ?? .string(text)
        case .boolean: return .boolean(text == "on" || text == "true")
        case .texts: return .array(texts.map { .string($0) })
        }
    }
}

extension LUNConfiguration {
    /// Every key with its value, as a file has them.
    var entries: [(key: String, value: TOMLValue)] {
        var entries: [(key: String, value: TOMLValue)] = [
            ("target", .integer(Int64(target))), ("lun", .integer(Int64(lun))),
        ]
        if let iSCSI {
            entries += iSCSI.entries
        } else {
            entries.append(("path", .string(path)))
            entries.append(("block-size", .integer(Int64(blockSize))))
            entries += disk.entries + limits.entries
        }
        entries.append(("readonly", .boolean(isReadOnly)))
        return entries
    }
}

extension ISCSIConfiguration {
    /// Every key with its value, but for the secrets.
    fileprivate var entries: [(key: String, value: TOMLValue)] {
        var entries: [(key: String, value: TOMLValue)] = [("iscsi", .string(url.shown))]
        if let initiatorName { entries.append(("initiator", .string(initiatorName))) }
        entries += credentialKeys.map { ($0.key, .string($0.value)) }
        entries.append(("header-digest", .string(headerDigest.rawValue)))
        entries.append(("required", .boolean(isRequired)))
        entries.append(
            ("replacement-timeout", .integer(Int64(replacementTimeout.components.seconds))))
        return entries
    }
}

extension StoreLimits {
    /// Every limit that is set.
    fileprivate var entries: [(key: String, value: TOMLValue)] {
        let limits = [
            ("iops", operationsPerSecond), ("iops-burst", operationBurst),
            ("bytes-per-second", bytesPerSecond), ("bytes-burst", byteBurst),
        ]
        return limits.compactMap { key, limit in
            limit.map { (key, .integer(Int64(clamping: $0))) }
        }
    }
}

extension DiskConfiguration {
    /// Every key that is set.
    fileprivate var entries: [(key: String, value: TOMLValue)] {
        var entries: [(key: String, value: TOMLValue)] = []
        if let physicalBlockSize {
            entries.append(("physical-block-size", .integer(Int64(physicalBlockSize))))
        }
        if isRemovable { entries.append(("removable", .boolean(true))) }
        for (key, text) in [
            ("vendor", vendor), ("product", product), ("revision", revision), ("serial", serial),
        ] {
            if let text { entries.append((key, .string(text))) }
        }
        if let reservationsPath { entries.append(("reservations", .string(reservationsPath))) }
        if isShared { entries.append(("shared", .boolean(true))) }
        if let worldWideName {
            let digits = worldWideName.map { byte in
                byte < 16 ? "0" + String(byte, radix: 16) : String(byte, radix: 16)
            }
            entries.append(("wwn", .string(digits.joined())))
        }
        return entries
    }
}
