// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import Testing

/// The repository's own text files.
struct SourceTree {
    /// Folders that hold what we wrote.
    private static let folders = ["Sources", "Tests", "Examples", "systemd", ".ci"]
    private static let endings = [
        ".swift", ".c", ".h", ".modulemap", ".md", ".sh", ".py", ".service",
    ]

    let files: [SourceFile]
    let manifest: SourceFile

    /// Reads the tree that this file lies in.
    init(around path: String = #filePath) throws {
        let root = path.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
        manifest = SourceFile(
            path: "Package.swift", text: try #require(Self.read("\(root)/Package.swift")))
        var files = [manifest]
        for name in Self.names(in: root) where name.hasSuffix(".md") {
            files.append(SourceFile(path: name, text: Self.read("\(root)/\(name)") ?? ""))
        }
        var waiting = Self.folders
        while let folder = waiting.popLast() {
            for name in Self.names(in: "\(root)/\(folder)") {
                let path = "\(folder)/\(name)"
                if Self.isFolder("\(root)/\(path)") {
                    waiting.append(path)
                } else if Self.isText(name) {
                    files.append(SourceFile(path: path, text: Self.read("\(root)/\(path)") ?? ""))
                }
            }
        }
        self.files = files.sorted { $0.path < $1.path }
    }

    private static func isText(_ name: String) -> Bool {
        endings.contains { name.hasSuffix($0) } || !name.contains(".")
    }

    private static func names(in path: String) -> [String] {
        var names: [String] = []
        guard let folder = unsafe opendir(path) else { return [] }
        defer { unsafe _ = closedir(folder) }
        while let entry = unsafe readdir(folder) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) {
                unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if ![".", "..", ".build", ".git"].contains(name) { names.append(name) }
        }
        return names
    }

    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return unsafe lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    private static func read(_ path: String) -> String? {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { return nil }
        let file = OwnedDescriptor(taking: descriptor)
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = unsafe part.withUnsafeMutableBytes {
                unsafe Glibc.read(file.rawValue, $0.baseAddress, $0.count)
            }
            if count <= 0 { break }
            bytes += part.prefix(count)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
