// SPDX-License-Identifier: Apache-2.0

/// What was written about a service, before it is put together: each value with its place.
///
/// Values come in this order, and a later one replaces an earlier one: the file, the environment,
/// the flags. A list is replaced as a whole: logical units on the command line are all that there
/// are.
public struct ConfigurationDraft: Equatable, Sendable {
    /// The values of a key: one, or the elements of a list.
    struct Setting: Equatable, Sendable {
        var values: [String]
        var place: ConfigurationPlace
    }

    /// By the keys' names.
    private(set) var settings: [String: Setting] = [:]
    private(set) var units: [LUNSpecification] = []
    private var unitPlace: ConfigurationPlace?
    /// The file that was read.
    var filePath: String?

    public init() {}

    // MARK: Writing

    /// Sets a key by a flag; nothing happens when the flag was left out.
    public mutating func set(_ key: ConfigurationKey, to text: String?) throws(ConfigurationError) {
        guard let text else { return }
        try set(key, to: [text], at: .flag(key.flag))
    }

    /// Sets a list by flags, one for each element; nothing happens without an element.
    public mutating func set(
        _ key: ConfigurationKey, toAll texts: [String]
    ) throws(ConfigurationError) {
        if texts.isEmpty { return }
        try set(key, to: texts, at: .flag(key.flag))
    }

    /// Adds logical units by flags, each as `LUNSpecification` reads it.
    public mutating func addUnits(_ texts: [String]) throws(ConfigurationError) {
        for text in texts { add(try LUNSpecification(text), at: .flag("--lun")) }
    }

    /// Takes what the environment says.
    ///
    /// - Parameter variable: the value of a variable by its name.
    /// - Throws: which variable is wrong.
    public mutating func readEnvironment(
        _ variable: (String) -> String?
    ) throws(ConfigurationError) {
        for key in ConfigurationKey.all {
            guard let name = key.variable, let value = variable(name) else { continue }
            try set(key, to: [value], at: .environment(name))
        }
    }

    mutating func add(_ unit: LUNSpecification, at place: ConfigurationPlace) {
        if let unitPlace, !place.isBeside(unitPlace) { units = [] }
        unitPlace = place
        units.append(unit)
    }

    mutating func set(
        _ key: ConfigurationKey, to values: [String], at place: ConfigurationPlace
    ) throws(ConfigurationError) {
        for value in values { try Self.check(value, for: key, at: place) }
        settings[key.name] = Setting(values: values, place: place)
    }

    private static func check(
        _ value: String, for key: ConfigurationKey, at place: ConfigurationPlace
    ) throws(ConfigurationError) {
        switch key.kind {
        case .text, .texts:
            guard !value.isEmpty else { throw .emptyValue(flag: place.description) }
            guard !value.utf8.contains(0) else {
                throw .unfitValue(
                    flag: place.description, value: "U+0000", wanted: "a text without it")
            }
        case .number(let range):
            guard let number = UInt64(value), range.contains(number) else {
                throw .unfitValue(
                    flag: place.description, value: value,
                    wanted: "a number from \(range.lowerBound) to \(range.upperBound)")
            }
        case .boolean:
            guard ["on", "off", "true", "false"].contains(value) else {
                throw .unfitValue(flag: place.description, value: value, wanted: "on or off")
            }
        case .choice(let known):
            guard known.contains(value) else {
                throw .unfitValue(
                    flag: place.description, value: value,
                    wanted: "one of " + known.joined(separator: ", "))
            }
        }
    }

    // MARK: Reading

    /// The text of a key.
    subscript(key: ConfigurationKey) -> String? { settings[key.name]?.values.first }

    /// The number of a key.
    func number(_ key: ConfigurationKey) -> UInt64? { self[key].flatMap { UInt64($0) } }

    /// Whether a key is switched on; nil when it was not set.
    func boolean(_ key: ConfigurationKey) -> Bool? { self[key].map { $0 == "on" || $0 == "true" } }

    /// The elements of a list.
    func texts(_ key: ConfigurationKey) -> [String] { settings[key.name]?.values ?? [] }

    func place(of key: ConfigurationKey) -> ConfigurationPlace? { settings[key.name]?.place }

    /// What a message about a key begins with: its place, or its name where the user writes.
    func name(of key: ConfigurationKey) -> String {
        place(of: key)?.description ?? hint(key)
    }

    /// The name of a key that was set nowhere.
    func hint(_ key: ConfigurationKey) -> String { filePath == nil ? key.flag : key.name }
}
