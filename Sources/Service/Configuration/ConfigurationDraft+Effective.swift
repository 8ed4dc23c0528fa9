// SPDX-License-Identifier: Apache-2.0

import ISCSIBackstore

extension ConfigurationDraft {
    /// The whole configuration as a file has it, defaults included, each value with its origin.
    ///
    /// Secrets are left out; all else that it shows can be read as a file again.
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
        }
        entries.append(("readonly", .boolean(isReadOnly)))
        return entries
    }
}

extension ISCSIConfiguration {
    /// Every key with its value, but for the secrets.
    fileprivate var entries: [(key: String, value: TOMLValue)] {
        let portals = url.portals.map(\.description).joined(separator: ",")
        let user = url.user.map { $0 + "@" } ?? ""
        var entries: [(key: String, value: TOMLValue)] = [
            ("iscsi", .string("iscsi://\(user)\(portals)/\(url.targetName)/\(url.lun)"))
        ]
        if let initiatorName { entries.append(("initiator", .string(initiatorName))) }
        entries.append(("header-digest", .string(headerDigest.rawValue)))
        entries.append(("required", .boolean(isRequired)))
        entries.append(
            ("replacement-timeout", .integer(Int64(replacementTimeout.components.seconds))))
        return entries
    }
}
