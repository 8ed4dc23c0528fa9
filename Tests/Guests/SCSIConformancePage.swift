// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests

/// How one test of libiscsi's suite ended, as the scenario `iscsi-suite` prints it.
struct ConformanceOutcome: Sendable {
    /// `SUITE.TEST passed`, `… skipped: WHY`, `… failed: WHAT`, `… crashed`.
    let line: String

    init(_ line: String) {
        self.line = line
    }

    /// What a whole run has come to.
    static func all(in report: String) throws -> [ConformanceOutcome] {
        let lines = report.split(separator: "\n").map(String.init)
        guard lines.last == "suite ended" else {
            throw GuestError("the suite broke off: \(report)")
        }
        return lines.dropLast().map(ConformanceOutcome.init)
    }

    var test: String { String(line.prefix { $0 != " " }) }
    /// `passed`, `skipped`, `failed` or `crashed`, without the reason.
    var result: String { String(line.dropFirst(test.count + 1).prefix { $0 != ":" }) }
    var isPass: Bool { line == test + " passed" }
    /// Whether the tool has left the test out because it was not allowed to write.
    var wantsToWrite: Bool {
        line.hasSuffix("--dataloss flag is not set. Skipping test.")
            || line.contains("--allow-sanitize flag is not set")
    }
    /// Whether the disk is to blame, or the tool has crashed.
    var isFailure: Bool { !isPass && !line.hasPrefix(test + " skipped: ") }
}

/// The published list of the tests that do not pass: rows `| SUITE.TEST | DISK, DISK | WHY |`, in
/// which a suite may stand for all its tests, and `all` for all disks.
struct ConformancePage {
    private let rows: [(test: String, disks: [String])]

    init() throws {
        let path = Workspace.checkout + "/Sources/SCSI/SCSI.docc/Conformance.md"
        let text = try String(contentsOfFile: path, encoding: .utf8)
        rows = text.split(separator: "\n").compactMap { line in
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            guard line.hasPrefix("| `"), cells.count == 3 else { return nil }
            return (
                cells[0].trimmingCharacters(in: ["`"]),
                cells[1].split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
            )
        }
    }

    /// The tests that do not pass on a disk.
    func skips(on disk: String) -> Set<String> {
        Set(rows.filter { $0.disks.contains(disk) || $0.disks == ["all"] }.map(\.test))
    }
}
