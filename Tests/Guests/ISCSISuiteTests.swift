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
            Program.run(["busybox", "sh", script, "--dataloss", ".*", target.url()]))
    }

    /// In a guest, through SG_IO.
    private static func inGuest() throws -> [String: String] {
        let target = try TgtTarget()
        let daemon = try Daemon(
            diskMebibytes: 16, furtherUnits: ["iscsi=\(target.url()),target=1,required"])
        let guest = try Guest(GuestSetup(.uml, .packed, requestQueueCount: 1), on: daemon)
        // The tool takes room for 65536 blocks, more than the guest has, and uses little of it.
        try guest.run("echo 1 >/proc/sys/vm/overcommit_memory")
        let report = try guest.run(
            "/scenarios/iscsi-suite --dataloss '.*' /dev/sdb", within: .seconds(900))
        try guest.powerOff()
        #expect(daemon.terminate(within: .seconds(10)) == .exited(0))
        try daemon.remove()
        return try results(report)
    }

    private static func results(_ report: String) throws -> [String: String] {
        let outcomes = try ConformanceOutcome.all(in: report)
        return Dictionary(outcomes.map { ($0.test, $0.result) }) { $1 }
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
