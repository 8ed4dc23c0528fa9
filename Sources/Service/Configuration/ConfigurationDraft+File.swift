// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage

extension ConfigurationDraft {
    /// Bytes that a file may have at most; what is larger is no configuration.
    private static let fileLimit = 1 << 20
    /// The table that stands once for each logical unit.
    static let unitTable = "scsi.lun"

    /// Takes what a file says.
    ///
    /// - Throws: the first thing that is wrong, with its file, line and key.
    public mutating func readFile(_ path: String) throws(ConfigurationError) {
        let bytes: [UInt8]
        do throws(Errno) {
            bytes = try SmallFile.read(path, limit: Self.fileLimit)
        } catch {
            throw .unreadableFile(path: path, reason: "\(error)")
        }
        try read(bytes, path: path)
    }

    /// Takes what the text of a file says.
    ///
    /// - Parameters:
    ///   - bytes: the text, in UTF-8.
    ///   - path: the file's name, for messages.
    /// - Throws: the first thing that is wrong.
    public mutating func read(_ bytes: [UInt8], path: String) throws(ConfigurationError) {
        filePath = path
        let document: TOMLDocument
        do throws(TOMLError) {
            document = try TOMLReader.read(bytes)
        } catch {
            throw .syntax(path: path, line: error.line, problem: error.problem)
        }
        for table in document.tables { try take(table, path: path) }
    }

    private mutating func take(
        _ table: TOMLDocument.Table, path: String
    ) throws(ConfigurationError) {
        let place = ConfigurationPlace.file(path: path, line: table.line, key: "[\(table.name)]")
        if table.name == Self.unitTable {
            guard table.isElement else {
                throw .misusedTable(
                    flag: place.description, wanted: "each logical unit is a [[\(table.name)]]")
            }
            let unitPlace = ConfigurationPlace.file(path: path, line: table.line, key: table.name)
            return add(try LUNSpecification(table, path: path), at: unitPlace)
        }
        guard table.name.isEmpty || ConfigurationKey.all.contains(where: { $0.table == table.name })
        else { throw .unknownTable(flag: place.description, known: Self.knownTables) }
        guard !table.isElement else {
            throw .misusedTable(
                flag: place.description, wanted: "it stands once, as [\(table.name)]")
        }
        for entry in table.entries { try take(entry, of: table, path: path) }
    }

    private static var knownTables: [String] {
        var names: [String] = []
        for key in ConfigurationKey.all where !key.table.isEmpty && !names.contains(key.table) {
            names.append(key.table)
        }
        return names.map { "[\($0)]" } + ["[[\(unitTable)]]"]
    }

    private mutating func take(
        _ entry: TOMLDocument.Entry, of table: TOMLDocument.Table, path: String
    ) throws(ConfigurationError) {
        let name = table.name.isEmpty ? entry.key : "\(table.name).\(entry.key)"
        let place = ConfigurationPlace.file(path: path, line: entry.line, key: name)
        guard let key = ConfigurationKey.all.first(where: { $0.name == name }) else {
            let siblings = ConfigurationKey.all.filter { $0.table == table.name }
            throw .unknownFileKey(flag: place.description, known: siblings.map(\.shortName))
        }
        try set(key, to: try Self.values(entry.value, for: key, at: place), at: place)
    }

    /// The texts of a value, if it has the type that the key takes.
    private static func values(
        _ value: TOMLValue, for key: ConfigurationKey, at place: ConfigurationPlace
    ) throws(ConfigurationError) -> [String] {
        switch (key.kind, value) {
        case (.text, .string(let text)), (.choice, .string(let text)): return [text]
        case (.number, .integer(let number)): return ["\(number)"]
        case (.boolean, .boolean(let isOn)): return [isOn ? "on" : "off"]
        case (.texts, .array(let elements)):
            var texts: [String] = []
            for element in elements {
                guard case .string(let text) = element else {
                    throw .wrongType(
                        flag: place.description, given: element.kind, wanted: "a string")
                }
                texts.append(text)
            }
            return texts
        default:
            throw .wrongType(
                flag: place.description, given: value.kind, wanted: key.kind.description)
        }
    }
}

extension ConfigurationKey.Kind {
    /// What a message calls it.
    fileprivate var description: String {
        switch self {
        case .text: "a string"
        case .number: "a whole number"
        case .boolean: "true or false"
        case .choice(let known): "one of \"" + known.joined(separator: "\", \"") + "\""
        case .texts: "a list of strings"
        }
    }
}
