// SPDX-License-Identifier: Apache-2.0

/// The layering as `Package.swift` gives it: what every module may import.
struct LayerTable {
    /// Modules that come with the toolchain and are no layer.
    static let system: Set<String> = [
        "Glibc", "Synchronization", "Foundation", "FoundationEssentials",
    ]

    /// What the names of the products in the manifest stand for.
    private static let packages = [
        "system": "SystemPackage", "logging": "Logging", "arguments": "ArgumentParser",
    ]

    let imports: [String: Set<String>]

    /// Reads the rows `Layer("Name", .data, imports: ["A", "B"], packages: [c])`.
    init(manifest: SourceFile) {
        let text = manifest.lines.joined(separator: " ")
        var imports: [String: Set<String>] = [:]
        for row in text.pieces(between: "Layer(", and: ")") {
            let name = row.pieces(between: "\"", and: "\"").first
            guard let name, row.contains("imports:") else { continue }
            let list = row.pieces(between: "imports: [", and: "]").first ?? ""
            var allowed = Set(list.pieces(between: "\"", and: "\""))
            for (product, module) in Self.packages {
                let packages = row.pieces(between: "packages: [", and: "]").first ?? ""
                if packages.hasWord(product) { allowed.insert(module) }
            }
            imports[name] = allowed
        }
        imports["vhostd"] = ["Service", "ArgumentParser"]
        self.imports = imports
    }

    /// Imports that the row of the file's module does not have.
    func violations(in file: SourceFile) -> [Violation] {
        guard file.isSwift, let module = file.module else { return [] }
        guard let allowed = imports[module] else {
            return [Violation(path: file.path, line: 1, rule: "\(module) has no row")]
        }
        return file.imports.filter { imported in
            !allowed.contains(imported.module) && !Self.system.contains(imported.module)
        }
        .map {
            Violation(
                path: file.path, line: $0.line, rule: "\(module) may not import \($0.module)")
        }
    }

    /// Rows that allow what no file of the module imports.
    func unused(in files: [SourceFile]) -> [String] {
        imports.keys.sorted().flatMap { module in
            let used = Set(
                files.filter { $0.module == module }.flatMap(\.imports).map(\.module))
            return (imports[module] ?? []).subtracting(used).sorted().map {
                "\(module) does not import \($0)"
            }
        }
    }
}

extension String {
    /// The texts between every opening and the next closing mark.
    func pieces(between opening: String, and closing: String) -> [String] {
        let text = Array(utf8)
        var pieces: [String] = []
        var place = 0
        while let start = text.place(of: Array(opening.utf8), from: place),
            let end = text.place(of: Array(closing.utf8), from: start + opening.utf8.count)
        {
            let piece = text[(start + opening.utf8.count)..<end]
            pieces.append(String(decoding: piece, as: UTF8.self))
            place = end + closing.utf8.count
        }
        return pieces
    }
}

extension [UInt8] {
    /// Where some bytes stand for the first time from a place on.
    fileprivate func place(of bytes: [UInt8], from first: Int) -> Int? {
        guard first + bytes.count <= count else { return nil }
        return (first...count - bytes.count).first { self[$0...].starts(with: bytes) }
    }
}
