// SPDX-License-Identifier: Apache-2.0

/// What a file says, table by table in the order of writing, each value with its line.
struct TOMLDocument: Equatable {
    /// A `[name]`, or one element of an array of tables, `[[name]]`; the first one has no name.
    struct Table: Equatable {
        var name: String
        var isElement: Bool
        var line: Int
        var entries: [Entry] = []
    }

    /// A `key = value`.
    struct Entry: Equatable {
        var key: String
        var value: TOMLValue
        var line: Int
    }

    var tables: [Table] = []
}

/// A value of a configuration file.
enum TOMLValue: Equatable, Sendable {
    case string(String)
    case integer(Int64)
    case boolean(Bool)
    case array([TOMLValue])

    /// What a message calls it.
    var kind: String {
        switch self {
        case .string: "a string"
        case .integer: "a whole number"
        case .boolean: "true or false"
        case .array: "a list"
        }
    }

    /// As a file has it.
    var text: String {
        switch self {
        case .string(let string): "\"\(Self.escape(string))\""
        case .integer(let number): "\(number)"
        case .boolean(let isTrue): isTrue ? "true" : "false"
        case .array(let elements): "[" + elements.map(\.text).joined(separator: ", ") + "]"
        }
    }

    private static func escape(_ string: String) -> String {
        var escaped = ""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"", "\\": escaped += "\\\(scalar)"
            case "\n": escaped += "\\n"
            case "\t": escaped += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                let digits = String(scalar.value, radix: 16)
                escaped += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}

/// What is wrong with the text of a file.
struct TOMLError: Error, Equatable {
    var line: Int
    var problem: String
}
