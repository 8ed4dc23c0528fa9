// SPDX-License-Identifier: Apache-2.0

/// A source file as the rules see it.
struct SourceFile {
    /// Path from the root of the repository.
    let path: String
    /// Its lines.
    let lines: [String]
    /// Its lines without comments and without what stands in string literals.
    let code: [String]

    init(path: String, text: String) {
        self.path = path
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        self.lines = lines
        var stripper = CodeStripper()
        code = lines.map { stripper.strip($0) }
    }

    var isSwift: Bool { path.hasSuffix(".swift") }

    /// The target that a Swift file belongs to: "Sources/Virtio/Rings/Ring.swift" to "Virtio".
    var module: String? {
        let folders = path.split(separator: "/").map(String.init)
        if folders.count > 2, folders[0] == "Sources" { return folders[1] }
        if folders.count > 3, folders[0] == "Tests", folders[1] == "Support" { return folders[2] }
        return nil
    }

    /// What the file imports, with the number of the line.
    var imports: [(line: Int, module: String)] {
        code.enumerated().compactMap { index, line in
            let words = line.split(separator: " ").map(String.init)
            guard let place = words.firstIndex(of: "import"), place + 1 < words.count,
                words[..<place].allSatisfy(Self.isImportModifier)
            else { return nil }
            let named = words[(place + 1)...].drop { Self.importKinds.contains($0) }
            let name = named.first?.split(separator: ".").first.map(String.init) ?? ""
            return (index + 1, name)
        }
    }

    private static let importKinds: Set<String> = [
        "struct", "class", "enum", "protocol", "func", "var", "let", "typealias",
    ]

    private static func isImportModifier(_ word: String) -> Bool {
        word.hasPrefix("@")
            || ["public", "package", "internal", "fileprivate", "private"].contains(word)
    }
}

/// Takes comments and the text of string literals out of Swift code, line by line.
struct CodeStripper {
    private enum Place {
        case code
        case blockComment
        case longString
    }

    private var place = Place.code
    private var text: [UInt8] = []
    private var next = 0

    /// The code in the next line; a string literal leaves its quotes.
    mutating func strip(_ line: String) -> String {
        text = Array(line.utf8)
        next = 0
        var code: [UInt8] = []
        while next < text.count {
            switch place {
            case .blockComment: skip(to: "*/")
            case .longString: skip(to: "\"\"\"")
            case .code: takeCode(&code)
            }
        }
        return String(decoding: code, as: UTF8.self)
    }

    private func comes(_ mark: StaticString) -> Bool {
        let count = mark.utf8CodeUnitCount
        guard next + count <= text.count else { return false }
        return mark.withUTF8Buffer { bytes in
            (0..<count).allSatisfy { unsafe bytes[$0] == text[next + $0] }
        }
    }

    private mutating func skip(to end: StaticString) {
        while next < text.count {
            if comes(end) {
                next += end.utf8CodeUnitCount
                place = .code
                return
            }
            next += 1
        }
    }

    private mutating func takeCode(_ code: inout [UInt8]) {
        if comes("//") {
            next = text.count
        } else if comes("/*") {
            next += 2
            place = .blockComment
        } else if comes("\"\"\"") {
            next += 3
            code += "\"\"".utf8
            place = .longString
        } else if comes("\"") {
            code += "\"\"".utf8
            skipString()
        } else {
            code.append(text[next])
            next += 1
        }
    }

    /// Skips a literal with everything that is interpolated into it.
    private mutating func skipString() {
        next += 1
        while next < text.count, !comes("\"") {
            if comes("\\(") {
                next += 2
                skipInterpolation()
            } else {
                next += comes("\\") ? 2 : 1
            }
        }
        next += 1
    }

    private mutating func skipInterpolation() {
        var depth = 1
        while depth > 0, next < text.count {
            if comes("\"") {
                skipString()
                continue
            }
            if comes("(") { depth += 1 }
            if comes(")") { depth -= 1 }
            next += 1
        }
    }
}
