// SPDX-License-Identifier: Apache-2.0

/// How the rules look at a line.
extension String {
    /// Where a text stands: the bytes before and behind it, nil at the ends of the line.
    private func places(of text: String) -> [(before: UInt8?, behind: ArraySlice<UInt8>)] {
        guard contains(text) else { return [] }
        let line = Array(utf8)
        let wanted = Array(text.utf8)
        guard line.count >= wanted.count else { return [] }
        return (0...line.count - wanted.count).filter { start in
            line[start...].starts(with: wanted)
        }
        .map { start in
            (start > 0 ? line[start - 1] : nil, line[(start + wanted.count)...])
        }
    }

    /// Whether a word stands here, and not as a part of a longer one.
    func hasWord(_ word: String) -> Bool {
        places(of: word).contains { !$0.before.isWordByte && !$0.behind.first.isWordByte }
    }

    /// Whether an exclamation mark stands directly behind a value or a type.
    var forcesUnwrapping: Bool {
        places(of: "!").contains { before, behind in
            let closers = Array(")]}>?".utf8)
            let endsValue = before.isWordByte || before.map(closers.contains) == true
            return endsValue && behind.first != UInt8(ascii: "=")
        }
    }

    /// Whether an absolute path begins here.
    func names(path: String) -> Bool {
        places(of: path).contains { !$0.before.isWordByte }
    }

    /// Whether the C variable is read, and not a label, a parameter or a member named so.
    var readsErrno: Bool {
        places(of: "errno").contains { before, behind in
            if before.isWordByte || before == UInt8(ascii: ".") { return false }
            if behind.first.isWordByte || behind.first == UInt8(ascii: ":") { return false }
            return !behind.drop { $0 == UInt8(ascii: " ") }.first.isWordByte
        }
    }
}

extension UInt8? {
    /// Whether the byte is a part of a name.
    fileprivate var isWordByte: Bool {
        switch self {
        case .some(let byte):
            byte == UInt8(ascii: "_") || byte >= 0x80
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
        case nil: false
        }
    }
}
