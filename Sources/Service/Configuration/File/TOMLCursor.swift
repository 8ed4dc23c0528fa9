// SPDX-License-Identifier: Apache-2.0

/// A place in a text, character by character, that knows its line.
struct TOMLCursor {
    private let scalars: [Unicode.Scalar]
    private var index = 0
    /// Counted from 1.
    private(set) var line = 1

    init(_ text: String) {
        scalars = Array(text.unicodeScalars)
    }

    /// The character at the place; nil at the end.
    var next: Unicode.Scalar? { index < scalars.count ? scalars[index] : nil }

    func error(_ problem: String) -> TOMLError { TOMLError(line: line, problem: problem) }

    /// A control character, which stands in no string and no comment; the tab is none.
    static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 && scalar != "\t" || scalar.value == 0x7F
    }

    mutating func advance() {
        if next == "\n" { line += 1 }
        index += 1
    }

    /// Goes on if the character is the one given.
    mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard next == scalar else { return false }
        advance()
        return true
    }

    /// Takes characters as long as they are wanted.
    mutating func takeAll(while isWanted: (Unicode.Scalar) -> Bool) -> String {
        var taken = String.UnicodeScalarView()
        while let scalar = next, isWanted(scalar) {
            taken.append(scalar)
            advance()
        }
        return String(taken)
    }

    /// Takes at most so many hexadecimal digits.
    mutating func takeHexadecimal(_ limit: Int) -> String {
        var left = limit
        return takeAll { scalar in
            guard left > 0, scalar.properties.isASCIIHexDigit else { return false }
            left -= 1
            return true
        }
    }

    mutating func skipSpaces() {
        while next == " " || next == "\t" { advance() }
    }

    /// Skips spaces, comments and ends of lines.
    mutating func skipEmptyLines() throws(TOMLError) {
        while true {
            skipSpaces()
            try skipComment()
            guard try takeLineEnd() else { return }
        }
    }

    /// Nothing but a comment stands behind a value or a table's name.
    mutating func endLine() throws(TOMLError) {
        skipSpaces()
        try skipComment()
        if next == nil { return }
        guard try takeLineEnd() else {
            throw error("nothing but a comment may stand behind it on the same line")
        }
    }

    private mutating func skipComment() throws(TOMLError) {
        guard next == "#" else { return }
        _ = takeAll { !Self.isControl($0) }
    }

    /// A newline, or a carriage return with one.
    private mutating func takeLineEnd() throws(TOMLError) -> Bool {
        if take("\n") { return true }
        guard let scalar = next, Self.isControl(scalar) else { return false }
        guard take("\r"), take("\n") else {
            throw error(
                "a control character, U+\(String(scalar.value, radix: 16, uppercase: true))")
        }
        return true
    }
}
