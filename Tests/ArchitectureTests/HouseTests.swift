// SPDX-License-Identifier: Apache-2.0

import Testing

@Suite("The house")
struct HouseTests {
    /// Read once.
    private static let tree = Result { try SourceTree() }

    private let tree: SourceTree
    private let table: LayerTable

    init() throws {
        tree = try Self.tree.get()
        table = LayerTable(manifest: tree.manifest)
    }

    @Test("stands: there are sources, and a row for every module")
    func isThere() {
        #expect(tree.files.count { $0.path.hasPrefix("Sources/") } > 50)
        #expect(table.imports["SCSI"]?.contains("BlockStorage") == true)
        #expect(table.imports["Virtio"]?.contains("LinuxIO") == true)
    }

    @Test("keeps every rule", arguments: Rule.all)
    func keeps(_ rule: Rule) {
        let code = tree.files.filter { rule.isFor($0) }
        #expect(code.flatMap { rule.violations(in: $0) } == [])
    }

    @Test("is layered as the manifest says")
    func layers() {
        #expect(tree.files.flatMap { table.violations(in: $0) } == [])
    }

    @Test("has no row that allows more than is used")
    func rows() {
        #expect(table.unused(in: tree.files) == [])
    }
}

extension Rule {
    /// Documents may be long and need no license line; everything else is held to every rule.
    func isFor(_ file: SourceFile) -> Bool {
        let isCode = [".swift", ".c", ".h"].contains { file.path.hasSuffix($0) }
        return isCode || [Rule.noWorkLeft.name, Rule.noMachinePaths.name].contains(name)
    }
}
