// SPDX-License-Identifier: Apache-2.0

/// Reads the part of TOML 1.0 that a configuration needs, and knows the line of every value.
///
/// That part is: comments, tables, arrays of tables, bare keys, strings on one line (basic and
/// literal), decimal integers, booleans, and arrays of those, over several lines where
/// wanted. Any other TOML (quoted and dotted keys, inline tables, strings over several lines, floats, dates) is
/// refused by name, because nothing here takes such a value. Every file that is taken is TOML, and
/// other readers of TOML read the same in it.
///
/// It is our own because the packages for TOML do not tell the line of a value once it is read,
/// which a message about a value needs, and bring Foundation, which doubles the idle memory.
struct TOMLReader {
    private var cursor: TOMLCursor
    private var document = TOMLDocument(tables: [.init(name: "", isElement: false, line: 1)])
    /// Tables and keys that were given, with their lines.
    private var given: [String: Int] = [:]

    /// Reads a whole file.
    ///
    /// - Parameter bytes: UTF-8.
    /// - Returns: the tables in the order of writing.
    /// - Throws: the first thing that is wrong.
    static func read(_ bytes: [UInt8]) throws(TOMLError) -> TOMLDocument {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw TOMLError(line: invalidLine(bytes), problem: "this is not UTF-8")
        }
        var reader = TOMLReader(cursor: TOMLCursor(text))
        try reader.readLines()
        return reader.document
    }

    private init(cursor: TOMLCursor) {
        self.cursor = cursor
    }

    /// The line of the first byte that is not UTF-8.
    private static func invalidLine(_ bytes: [UInt8]) -> Int {
        let lines = bytes.split(separator: 0x0A, omittingEmptySubsequences: false)
        let good = lines.prefix { String(validating: $0, as: UTF8.self) != nil }
        return good.count + 1
    }

    private mutating func readLines() throws(TOMLError) {
        while true {
            try cursor.skipEmptyLines()
            guard let next = cursor.next else { return }
            if next == "[" { try readHeader() } else { try readEntry() }
            try cursor.endLine()
        }
    }

    private mutating func readHeader() throws(TOMLError) {
        let line = cursor.line
        cursor.advance()
        let isElement = cursor.take("[")
        let name = try readKey()
        let closing = isElement ? "]]" : "]"
        for scalar in closing.unicodeScalars {
            guard cursor.take(scalar) else {
                throw cursor.error("a table's name ends with '\(closing)'")
            }
        }
        if let first = given[name], !isElement || !wasElement(name) {
            throw TOMLError(
                line: line, problem: "[\(name)] is given twice; the first stands in line \(first)")
        }
        given[name] = line
        document.tables.append(.init(name: name, isElement: isElement, line: line))
    }

    private func wasElement(_ name: String) -> Bool {
        document.tables.contains { $0.name == name && $0.isElement }
    }

    private mutating func readEntry() throws(TOMLError) {
        let line = cursor.line
        let key = try readKey()
        guard !key.contains(".") else {
            throw cursor.error("a name with dots stands in [ ], as a table of its own")
        }
        guard cursor.take("=") else { throw cursor.error("'\(key)' needs '=' and a value") }
        cursor.skipSpaces()
        let value = try readValue()
        let last = document.tables.count - 1
        if let first = document.tables[last].entries.first(where: { $0.key == key }) {
            throw TOMLError(
                line: line,
                problem: "'\(key)' is given twice; the first stands in line \(first.line)")
        }
        document.tables[last].entries.append(.init(key: key, value: value, line: line))
    }

    /// Reads a bare key, or several with dots between them, and the spaces around.
    private mutating func readKey() throws(TOMLError) -> String {
        var parts: [String] = []
        repeat {
            cursor.skipSpaces()
            let part = cursor.takeAll { scalar in
                scalar == "-" || scalar == "_" || scalar.isASCII && scalar.properties.isAlphabetic
                    || ("0"..."9").contains(scalar)
            }
            guard !part.isEmpty else {
                throw cursor.error("a name is made of letters, digits, '-' and '_'")
            }
            parts.append(part)
            cursor.skipSpaces()
        } while cursor.take(".")
        return parts.joined(separator: ".")
    }

    // MARK: Values

    private mutating func readValue() throws(TOMLError) -> TOMLValue {
        switch cursor.next {
        case "\"": return .string(try readBasicString())
        case "'": return .string(try readLiteralString())
        case "[": return .array(try readArray())
        case "{": throw cursor.error("inline tables are not used here")
        case nil, "\n", "\r", "#": throw cursor.error("a value is missing")
        default: return try readWord()
        }
    }

    /// Reads a number or a boolean.
    private mutating func readWord() throws(TOMLError) -> TOMLValue {
        let word = cursor.takeAll { !" \t\r\n,]#".unicodeScalars.contains($0) }
        switch word {
        case "true": return .boolean(true)
        case "false": return .boolean(false)
        default: break
        }
        let digits = word.hasPrefix("-") || word.hasPrefix("+") ? word.dropFirst() : word[...]
        let groups = digits.split(separator: "_", omittingEmptySubsequences: false)
        let isDecimal = groups.allSatisfy { group in
            !group.isEmpty && group.unicodeScalars.allSatisfy { ("0"..."9").contains($0) }
        }
        let hasLeadingZero = digits.count > 1 && digits.hasPrefix("0")
        guard isDecimal, !hasLeadingZero, let number = Int64(word.filter { $0 != "_" }) else {
            throw cursor.error(
                "'\(word)' is no value; text stands in quotation marks, and else there are whole "
                    + "numbers, true and false")
        }
        return .integer(number)
    }

    private mutating func readArray() throws(TOMLError) -> [TOMLValue] {
        let first = cursor.line
        cursor.advance()
        var elements: [TOMLValue] = []
        while true {
            try cursor.skipEmptyLines()
            if cursor.take("]") { return elements }
            guard cursor.next != nil else {
                throw TOMLError(line: first, problem: "this list has no ']' at its end")
            }
            guard cursor.next != "[" else { throw cursor.error("a list within a list") }
            elements.append(try readValue())
            try cursor.skipEmptyLines()
            guard cursor.take(",") || cursor.next == "]" || cursor.next == nil else {
                throw cursor.error("the elements of a list have a comma between them")
            }
        }
    }

    private mutating func readLiteralString() throws(TOMLError) -> String {
        cursor.advance()
        let text = cursor.takeAll { $0 != "'" && !TOMLCursor.isControl($0) }
        guard cursor.take("'") else { throw cursor.error("a string has no ' at its end") }
        guard text.isEmpty == false || cursor.next != "'" else {
            throw cursor.error("strings over several lines are not used here")
        }
        return text
    }

    private mutating func readBasicString() throws(TOMLError) -> String {
        cursor.advance()
        var text = ""
        while true {
            text += cursor.takeAll { $0 != "\"" && $0 != "\\" && !TOMLCursor.isControl($0) }
            if cursor.take("\"") { break }
            guard cursor.take("\\") else {
                throw cursor.error("a string has no \" at its end")
            }
            text.unicodeScalars.append(try readEscape())
        }
        guard !text.isEmpty || cursor.next != "\"" else {
            throw cursor.error("strings over several lines are not used here")
        }
        return text
    }

    private mutating func readEscape() throws(TOMLError) -> Unicode.Scalar {
        let plain: [Unicode.Scalar: Unicode.Scalar] = [
            "b": "\u{8}", "t": "\t", "n": "\n", "f": "\u{C}", "r": "\r", "\"": "\"", "\\": "\\",
        ]
        guard let letter = cursor.next else { throw cursor.error("a string has no \" at its end") }
        if let scalar = plain[letter] {
            cursor.advance()
            return scalar
        }
        let lengths: [Unicode.Scalar: Int] = ["u": 4, "U": 8]
        guard let length = lengths[letter] else {
            throw cursor.error(
                "'\\\(letter)' means nothing in a string; write '\\\\' for a backslash")
        }
        cursor.advance()
        let digits = cursor.takeHexadecimal(length)
        guard digits.count == length, let value = UInt32(digits, radix: 16),
            let scalar = Unicode.Scalar(value)
        else { throw cursor.error("'\\\(letter)\(digits)' is no character") }
        return scalar
    }
}
