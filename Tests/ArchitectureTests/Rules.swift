// SPDX-License-Identifier: Apache-2.0

/// A place that breaks a rule of the house.
struct Violation: Equatable, CustomStringConvertible {
    let path: String
    let line: Int
    let rule: String

    var description: String { "\(path):\(line): \(rule)" }
}

/// A rule that one file keeps or breaks.
struct Rule: Sendable, CustomStringConvertible {
    let name: String
    private let check: @Sendable (SourceFile) -> [Int]

    /// A rule with the lines, counted from 1, that break it.
    init(_ name: String, _ check: @escaping @Sendable (SourceFile) -> [Int]) {
        self.name = name
        self.check = check
    }

    var description: String { name }

    func violations(in file: SourceFile) -> [Violation] {
        check(file).map { Violation(path: file.path, line: $0, rule: name) }
    }
}

extension Rule {
    /// Every rule that needs no more than one file.
    static let all = [
        license, length, unsafeFence, safetyComments, noWorkLeft, noTraps, noMachinePaths,
        errnoInOnePlace, noFoundation,
    ]

    /// Bytes that every file opens with; the manifest opens with its tools version.
    static let license = Rule("a file opens with its license") { file in
        let first = file.lines.first == "// swift-tools-version: 6.2" ? 1 : 0
        let line = first < file.lines.count ? file.lines[first] : ""
        let openings = ["// ", "# "].map { $0 + "SPDX-License-Identifier: Apache-2.0" }
        return openings.contains(line) ? [] : [1]
    }

    static let length = Rule("a file has at most 400 lines") { file in
        file.lines.count > 400 ? [file.lines.count] : []
    }

    /// Where memory may be touched by address.
    static let unsafeFolders = [
        "Sources/LinuxIO/", "Sources/Virtio/Memory/", "Sources/Virtio/Rings/",
        "Sources/FileBackstore/", "Sources/ISCSIBackstore/",
    ]

    static let unsafeFence = Rule("unsafe code stands behind the fence") { file in
        guard file.path.hasPrefix("Sources/"),
            !unsafeFolders.contains(where: { file.path.hasPrefix($0) })
        else { return [] }
        return file.linesOfCode { line in
            line.hasWord("unsafe") || line.contains("nonisolated(unsafe)")
                || line.contains("unowned(unsafe)") || line.hasWord("@safe")
        }
    }

    /// Lines in which a reason is looked for above unsafe code, and within a closure that it opens.
    private static let reasonDistance = (above: 24, below: 8)

    static let safetyComments = Rule("unsafe code says why it is safe (SAFETY:)") { file in
        guard file.path.hasPrefix("Sources/"), file.isSwift else { return [] }
        return file.linesOfCode {
            $0.contains("@unchecked Sendable") || $0.contains("nonisolated(unsafe)")
        }
        .filter { !file.hasReason(near: $0, within: reasonDistance) }
            + unreasonedUnsafe(in: file)
    }

    /// Giving memory back that one owns needs no reason: it is what a deinit is for.
    private static func unreasonedUnsafe(in file: SourceFile) -> [Int] {
        file.linesOfCode { line in
            line.hasWord("unsafe") && !line.contains("deallocate()")
                && !line.contains(".allocate(") && !line.contains("deinitialize(")
        }
        .filter { !file.hasReason(near: $0, within: reasonDistance) }
    }

    /// The words are put together here, so that this file keeps the rule.
    private static let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]

    static let noWorkLeft = Rule("nothing is left to do") { file in
        file.lines.indices.filter { index in
            marks.contains { file.lines[index].hasWord($0) }
        }
        .map { $0 + 1 }
    }

    static let noTraps = Rule("nothing is forced") { file in
        guard file.path.hasPrefix("Sources/"), file.isSwift else { return [] }
        return file.linesOfCode { line in
            line.contains("try!") || line.contains("as!") || line.hasWord("fatalError")
                || line.forcesUnwrapping
        }
    }

    /// Put together, so that this file keeps the rule.
    private static let machinePaths = ["/wo" + "rk/", "/ho" + "me/", "/ro" + "ot/"]

    static let noMachinePaths = Rule("no path of a machine is named") { file in
        file.lines.indices.filter { index in
            machinePaths.contains { file.lines[index].names(path: $0) }
        }
        .map { $0 + 1 }
    }

    static let errnoInOnePlace = Rule("errno is read in one place") { file in
        guard file.path.hasPrefix("Sources/"), file.isSwift,
            file.path != "Sources/LinuxIO/SystemCall.swift"
        else { return [] }
        return file.linesOfCode { $0.readsErrno }
    }

    static let noFoundation = Rule("Foundation stands above the data path") { file in
        guard let module = file.module, file.path.hasPrefix("Sources/"),
            !["Service", "vhostd"].contains(module)
        else { return [] }
        return file.imports.filter { $0.module.hasPrefix("Foundation") }.map(\.line)
    }
}

extension SourceFile {
    /// The numbers of the lines whose code has a property.
    func linesOfCode(where hasProperty: (String) -> Bool) -> [Int] {
        code.indices.filter { hasProperty(code[$0]) }.map { $0 + 1 }
    }

    /// Whether a reason stands close to the line, or in the comment of the type around it.
    ///
    /// Below the line it counts only where the line opens a closure, which the reason stands in.
    func hasReason(near line: Int, within distance: (above: Int, below: Int)) -> Bool {
        let index = line - 1
        let opensMore = code[index].hasSuffix("{") || code[index].hasSuffix("(")
        let last = min(lines.count - 1, index + (opensMore ? distance.below : 0))
        let near = lines[max(0, index - distance.above)...last]
        if near.contains(where: { $0.contains("SAFETY:") }) { return true }
        return typeComment(around: index).contains { $0.contains("SAFETY:") }
    }

    /// The comment of the type or extension, declared at the margin, that a line stands in.
    private func typeComment(around index: Int) -> ArraySlice<String> {
        guard
            let head = code[...index].lastIndex(where: { line in
                !line.isEmpty && line.first != " " && line.first != "}" && line.hasSuffix("{")
            })
        else { return [] }
        var first = head
        while first > 0, lines[first - 1].hasPrefix("//") || lines[first - 1].hasPrefix("@") {
            first -= 1
        }
        return lines[first...head]
    }
}
