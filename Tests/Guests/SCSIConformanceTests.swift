// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests
import Testing

/// libiscsi's `iscsi-test-cu --dataloss --allow-sanitize` on the guest's side of the device.
///
/// What it may skip, and why, stands in `Sources/SCSI/SCSI.docc/Conformance.md`, which this suite reads:
/// a test that is skipped and not listed fails as one does that is listed and not skipped.
@Suite("The conformance suite of libiscsi in a guest", .serialized)
struct SCSIConformanceTests {
    @Test("passes on a disk", arguments: ConformanceDisk.all)
    func passes(disk: ConformanceDisk) async throws {
        try await onOwnThread {
            let outcomes = try disk.run().filter { !$0.wantsToWrite }
            let expected = try ConformancePage().skips(on: disk.name)
                .intersection(outcomes.map(\.test))
            let failed = outcomes.filter { $0.isFailure && !expected.contains($0.test) }
            #expect(failed.isEmpty, "\(failed.map(\.line).joined(separator: "\n"))")
            let notPassed = Set(outcomes.filter { !$0.isPass }.map(\.test))
            #expect(
                notPassed.subtracting(expected).isEmpty,
                "skipped and not listed: \(notPassed.subtracting(expected).sorted())")
            #expect(
                expected.subtracting(notPassed).isEmpty,
                "listed and not skipped: \(expected.subtracting(notPassed).sorted())")
            let passCount = outcomes.count { $0.isPass }
            #expect(passCount >= disk.leastPassCount, "\(passCount) passed")
            print(
                "iscsi-test-cu, \(disk.name): \(outcomes.count) tests, \(passCount) passed,",
                "\(outcomes.count - passCount) skipped")
        }
    }
}

/// A disk to run the suite on, and how.
struct ConformanceDisk: Sendable, CustomTestStringConvertible {
    /// A run of the tool in the guest: the kind of device file, the suites as the scenario wants
    /// them, the targets.
    struct Run: Sendable {
        let node: String
        var suites = ".*"
        var targets = "1"
    }

    /// Its column in the list of the skipped tests.
    let name: String
    /// Keys of `--lun`.
    let keys: String
    let runs: [Run]
    let leastPassCount: Int

    var testDescription: String { name }

    /// Suites about a medium that can be ejected: only an sg node can be opened without the kernel
    /// preventing that, and none keeps such a suite from the others.
    private static let removable = "NoMedia|PreventAllow|StartStopUnit"
    /// Suites that expect blocks that were never written come first.
    private static let fresh = "MultipathIO"
    /// Suites that write nothing but reservations.
    private static let reservations = "ReadOnly|PrinReadKeys|Prout.*"
    /// Suites that look at the size of a physical block.
    private static let provisioning =
        "CompareAndWrite|GetLBAStatus|Inquiry|ReadCapacity1.|Sanitize|Unmap|WriteSame1."
    /// Suites that fail rather than skip when the tool may not write.
    private static let writing = "WriteVerify.."

    static let all = [
        ConformanceDisk(
            name: "512", keys: "physical-block-size=512,removable",
            runs: [
                Run(node: "sd", suites: fresh, targets: "1 2"),
                Run(node: "sg", suites: removable),
                Run(node: "sd", suites: "not:\(fresh)|\(removable)"),
            ], leastPassCount: 165),
        ConformanceDisk(
            name: "512e", keys: "physical-block-size=4096",
            runs: [Run(node: "sd", suites: provisioning)], leastPassCount: 30),
        ConformanceDisk(
            name: "4Kn", keys: "block-size=4096",
            runs: [Run(node: "sd")],
            leastPassCount: 155),
        // The block device of a disk that is read-only cannot be opened for writing.
        ConformanceDisk(
            name: "read-only", keys: "readonly",
            runs: [
                Run(node: "keep", suites: "not:\(reservations)|\(writing)"),
                Run(node: "sg", suites: reservations),
            ], leastPassCount: 70),
    ]

    /// Runs the suite in a new guest on a new disk.
    func run() throws -> [ConformanceOutcome] {
        let folder = try Workspace.makeRunFolder()
        let image = try DiskImage(path: folder + "/conformance.img", mebibytes: 64)
        let setup = GuestSetup(.uml, .packed, requestQueueCount: 1)
        let daemon = try Daemon(
            diskMebibytes: 16,
            furtherUnits: ["1", "2"].map { "target=\($0),path=\(image.path),\(keys)" })
        let guest = try Guest(setup, on: daemon)
        var outcomes: [ConformanceOutcome] = []
        for run in runs {
            let report = try guest.run(
                "/scenarios/conformance \(run.node) '\(run.suites)' \(run.targets)",
                within: .seconds(900))
            outcomes += try ConformanceOutcome.all(in: report)
        }
        try guest.powerOff()
        #expect(daemon.terminate(within: .seconds(2)) == .exited(0))
        try daemon.remove()
        try FileManager.default.removeItem(atPath: folder)
        return outcomes
    }
}
