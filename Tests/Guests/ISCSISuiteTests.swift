// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests
import Targets
import Testing

/// libiscsi's own acceptance suite, in a guest on a unit that passes through, and directly at the target.
@Suite("The acceptance suite iscsi-test-cu over a unit at a target")
struct ISCSISuiteTests {
    @Test("gives the results that it gives at the target itself, but for those that are published")
    func comparison() async throws {
        try await onOwnThread {
            let direct = try Self.direct()
            let guest = try Self.inGuest()
            #expect(direct.count > 200, "\(direct)")
            #expect(Set(guest.keys) == Set(direct.keys))
            let published = try Self.published()
            for (test, result) in direct.sorted(by: { $0.key < $1.key }) {
                let found = "\(result) → \(guest[test] ?? "nothing")"
                let expected = published[test] ?? "\(result) → \(result)"
                #expect(found == expected, "\(test)")
            }
        }
    }

    /// At the target, over the network.
    private static func direct() throws -> [String: String] {
        let target = try TgtTarget()
        let script = Workspace.checkout + "/Tests/Guests/Scenarios/iscsi-suite"
        return try results(
            Program.run(["busybox", "sh", script, "iscsi-test-cu", target.url()]))
    }

    /// In a guest, through SG_IO.
    private static func inGuest() throws -> [String: String] {
        let setup = GuestSetup(.uml, .packed, requestQueueCount: 1)
        let target = try TgtTarget()
        let folder = try Workspace.makeRunFolder()
        let tools = try ToolDisk("iscsi-test-cu", in: folder)
        let daemon = try Daemon(
            diskMebibytes: 16,
            furtherUnits: [
                "iscsi=\(target.url()),target=1,required", "target=2,path=\(tools.path),readonly",
            ])
        let guest = try Guest(setup, on: daemon)
        let environment = try tools.mount("/dev/sdc", in: guest)
        let report = try guest.run(
            "\(environment) /scenarios/iscsi-suite /mnt/iscsi-test-cu /dev/sdb",
            within: .seconds(900))
        try guest.run("umount /mnt")
        try guest.powerOff()
        #expect(daemon.terminate(within: .seconds(10)) == .exited(0))
        try daemon.remove()
        try FileManager.default.removeItem(atPath: folder)
        return try results(report)
    }

    private static func results(_ report: String) throws -> [String: String] {
        let lines = report.split(separator: "\n").map(String.init)
        guard lines.last == "suite ended" else {
            throw GuestError("the suite broke off: \(report)")
        }
        let pairs = lines.dropLast().map { $0.split(separator: " ", maxSplits: 1).map(String.init) }
        return Dictionary(pairs.map { ($0[0], $0.count > 1 ? $0[1] : "") }) { $1 }
    }

    /// The published list: rows `| test | result at the target → result in a guest | why |`.
    private static func published() throws -> [String: String] {
        let path = Workspace.checkout + "/Sources/ISCSIBackstore/ISCSIBackstore.docc/Conformance.md"
        let rows = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
            .filter { $0.hasPrefix("| `") }
            .map { row in
                row.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            }
        return Dictionary(
            rows.map { ($0[0].trimmingCharacters(in: ["`"]), $0[1]) }, uniquingKeysWith: { $1 })
    }
}
