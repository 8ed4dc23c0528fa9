// SPDX-License-Identifier: Apache-2.0

import Testing

@Suite("A rule of the house")
struct RuleTests {
    private func lines(
        _ rule: Rule, _ text: String, path: String = "Sources/SCSI/Planted.swift"
    ) -> [Int] {
        rule.violations(in: SourceFile(path: path, text: text)).map(\.line)
    }

    @Test("wants the license in the first line")
    func license() {
        let line = "// SPDX-License-Identifier: Apache-2.0\n"
        #expect(lines(.license, line) == [])
        #expect(lines(.license, "\n" + line) == [1])
        #expect(lines(.license, "") == [1])
        #expect(lines(.license, "// SPDX-License-Identifier: GPL-2.0\n") == [1])
        #expect(lines(.license, "// swift-tools-version: 6.2\n" + line) == [])
        #expect(lines(.license, "// swift-tools-version: 6.2\n") == [1])
    }

    @Test("counts lines")
    func length() {
        #expect(lines(.length, String(repeating: "\n", count: 400)) == [])
        #expect(lines(.length, String(repeating: "\n", count: 401)) == [401])
        #expect(lines(.length, String(repeating: "\n", count: 400) + "x") == [401])
    }

    @Test("keeps unsafe code behind the fence")
    func fence() {
        let planted = "let a = 1\nlet b = unsafe read(a)\n"
        #expect(lines(.unsafeFence, planted) == [2])
        #expect(lines(.unsafeFence, planted, path: "Sources/Virtio/Device/A.swift") == [2])
        #expect(lines(.unsafeFence, planted, path: "Sources/Virtio/Rings/Split/A.swift") == [])
        #expect(lines(.unsafeFence, planted, path: "Sources/LinuxIO/A.swift") == [])
        #expect(lines(.unsafeFence, planted, path: "Tests/SCSITests/A.swift") == [])
        #expect(lines(.unsafeFence, "nonisolated(unsafe) var a = 1\n@safe struct B {}") == [1, 2])
        #expect(lines(.unsafeFence, "// unsafe\nlet a = \"unsafe\"\nlet isUnsafe = 1") == [])
        #expect(lines(.unsafeFence, "let text = \"\"\"\n  unsafe\n  \"\"\"\nlet unsafeA = 1") == [])
        #expect(lines(.unsafeFence, "let text = \"\\(\"a\")\" + unsafe(b)") == [1])
    }

    @Test("wants a reason close above unsafe code, or on the type around it")
    func reasons() {
        let path = "Sources/LinuxIO/A.swift"
        let gap = String(repeating: "let a = 1\n", count: 30)
        #expect(lines(.safetyComments, "unsafe read()\n", path: path) == [1])
        #expect(lines(.safetyComments, "// SAFETY: checked.\nunsafe read()\n", path: path) == [])
        #expect(
            lines(.safetyComments, "// SAFETY: checked.\n\(gap)unsafe read()\n", path: path)
                == [32])
        #expect(
            lines(
                .safetyComments,
                "/// SAFETY: one thread.\n@safe struct A {\n    let b = 1\n"
                    + String(repeating: "    let a = 1\n", count: 40) + "    unsafe read()\n}\n",
                path: path) == [])
        #expect(
            lines(.safetyComments, "final class A: @unchecked Sendable {\n}", path: path) == [1])
        #expect(lines(.safetyComments, "unsafe storage.deallocate()\n", path: path) == [])
    }

    @Test("finds what was left to do")
    func marks() {
        for mark in ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"] {
            #expect(lines(.noWorkLeft, "let a = 1 // \(mark): more\n") == [1])
            #expect(lines(.noWorkLeft, "\n/// A \(mark)\n", path: "README.md") == [2])
            #expect(lines(.noWorkLeft, "let a\(mark) = 1\n") == [])
        }
    }

    @Test("finds what is forced")
    func traps() {
        let planted = [
            "let a = try! read()", "let a = b as! Int", "fatalError(\"no\")", "let a = b!",
            "let a = list[0]!", "let a = read()!.count", "var a: Int!", "let a = b?.c!",
            "call { $0 }!",
        ]
        for line in planted { #expect(lines(.noTraps, line + "\n") == [1], "\(line)") }
        let fine = [
            "if a != b {", "if !a { b = !c }", "let a = \"no!\"", "// no!", "return !isOpen(a)",
            "let a = b ?? !c", "/// A fatalError", "isNoFatalErrorHere()",
        ]
        for line in fine { #expect(lines(.noTraps, line + "\n") == [], "\(line)") }
        #expect(lines(.noTraps, "let a = b!", path: "Tests/SCSITests/A.swift") == [])
    }

    @Test("finds paths of a machine")
    func paths() {
        for folder in ["wo" + "rk", "ho" + "me", "ro" + "ot"] {
            #expect(lines(.noMachinePaths, "see /\(folder)/notes\n", path: "README.md") == [1])
            #expect(lines(.noMachinePaths, "let a = \"/\(folder)/b\"\n") == [1])
            #expect(lines(.noMachinePaths, "see Sources/\(folder)/notes\n") == [])
            #expect(lines(.noMachinePaths, "see /\(folder)ing\n") == [])
        }
    }

    @Test("finds who reads errno")
    func errno() {
        for line in ["let a = errno", "if errno == EIO {", "f(errno)", "errno = 0"] {
            #expect(lines(.errnoInOnePlace, line) == [1], "\(line)")
            #expect(
                lines(.errnoInOnePlace, line, path: "Sources/LinuxIO/SystemCall.swift") == [])
        }
        for line in ["// errno", "init(errno code: Int32)", "f(errno: 1)", ".errno", "errnoText"] {
            #expect(lines(.errnoInOnePlace, line) == [], "\(line)")
        }
    }

    @Test("keeps Foundation above the data path")
    func foundation() {
        let planted = "import Glibc\nimport FoundationEssentials\npublic import Foundation\n"
        #expect(lines(.noFoundation, planted) == [2, 3])
        #expect(lines(.noFoundation, planted, path: "Sources/Service/A.swift") == [])
    }
}

@Suite("The table of layers")
struct LayerTableTests {
    private let table = LayerTable(
        manifest: SourceFile(
            path: "Package.swift",
            text: """
                let layers = [
                    Layer("LinuxIO", .data, imports: ["CLinux"], packages: [system]),
                    Layer(
                        "SCSI", .data,
                        imports: [
                            "BlockStorage", "LinuxIO",
                        ], packages: [logging]),
                    Layer("Plain", .control, imports: []),
                ]
                """))

    private func violations(_ path: String, _ text: String) -> [String] {
        table.violations(in: SourceFile(path: path, text: text)).map(\.rule)
    }

    @Test("is read from the manifest")
    func reads() {
        #expect(table.imports["LinuxIO"] == ["CLinux", "SystemPackage"])
        #expect(table.imports["SCSI"] == ["BlockStorage", "LinuxIO", "Logging"])
        #expect(table.imports["Plain"] == [])
    }

    @Test("refuses an import that has no place in the row")
    func refuses() {
        let path = "Sources/SCSI/Block/Disk.swift"
        #expect(
            violations(path, "import BlockStorage\npublic import LinuxIO\nimport Glibc\n") == [])
        #expect(violations(path, "import Virtio\n") == ["SCSI may not import Virtio"])
        #expect(violations(path, "public import Virtio\n") == ["SCSI may not import Virtio"])
        #expect(violations(path, "@testable import Virtio\n") == ["SCSI may not import Virtio"])
        #expect(violations(path, "import struct Virtio.Buffer\n") == ["SCSI may not import Virtio"])
        #expect(violations(path, "// import Virtio\n") == [])
        #expect(violations("Sources/New/A.swift", "import Glibc\n") == ["New has no row"])
        #expect(
            violations("Tests/Support/Plain/A.swift", "import SCSI\n")
                == ["Plain may not import SCSI"])
    }

    @Test("finds a row that allows more than is used")
    func unused() {
        let files = [
            SourceFile(path: "Sources/SCSI/A.swift", text: "import LinuxIO\nimport Logging\n"),
            SourceFile(
                path: "Sources/LinuxIO/A.swift", text: "import CLinux\nimport SystemPackage\n"),
            SourceFile(
                path: "Sources/vhostd/A.swift", text: "import Service\nimport ArgumentParser\n"),
        ]
        #expect(table.unused(in: files) == ["SCSI does not import BlockStorage"])
    }
}
