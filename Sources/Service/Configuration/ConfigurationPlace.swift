// SPDX-License-Identifier: Apache-2.0

/// Where a value was written: what a message about it begins with.
public enum ConfigurationPlace: Equatable, Sendable, CustomStringConvertible {
    /// A line of a file, with the key's full name there.
    case file(path: String, line: Int, key: String)
    /// A variable of the environment.
    case environment(String)
    /// A flag of the command line.
    case flag(String)

    public var description: String {
        switch self {
        case .file(let path, let line, let key): "\(path):\(line): \(key)"
        case .environment(let variable): variable
        case .flag(let flag): flag
        }
    }

    /// A key's name in the language of this place.
    func name(of key: ConfigurationKey) -> String {
        switch self {
        case .file: key.name
        case .environment: key.variable ?? key.name
        case .flag: key.flag
        }
    }

    /// Whether a value from the other place was written beside one from here, not over it.
    func isBeside(_ other: ConfigurationPlace) -> Bool {
        switch (self, other) {
        case (.file, .file), (.environment, .environment), (.flag, .flag): true
        default: false
        }
    }

    /// As a comment beside an effective value.
    var origin: String {
        switch self {
        case .file(let path, let line, _): "\(path):\(line)"
        default: description
        }
    }
}
