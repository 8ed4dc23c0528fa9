// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests
import Testing

/// Two services on one host that have the same disk, as two hosts would have with shared storage.
///
/// With QEMU 9 or later (`Tests/run newer-guest`): see the README of these tests.
@Suite("A guest that migrates while it writes", .serialized)
struct MigrationTests {
    @Test(
        "finds in its disk what it wrote, there and back again",
        arguments: [
            GuestSetup(.qemu, .split, requestQueueCount: 2),
            GuestSetup(.qemu, .packed, requestQueueCount: 2, requestThreadCount: 2),
        ])
    func migrates(setup: GuestSetup) async throws {
        try await onOwnThread {
            let folder = try Workspace.makeRunFolder()
            let disk = try DiskImage(path: folder + "/shared.img", mebibytes: 64)
            let services = try (0..<2).map { _ in
                try Daemon(
                    diskMebibytes: 8, furtherUnits: [disk.path],
                    furtherArguments: [
                        "--lock-disks", "in-use", "--scsi-threads", "\(setup.requestThreadCount)",
                    ], isControlled: true)
            }
            let guest = try Guest(setup, devices: .disks(of: services[0], as: setup))
            // Linux names disks in the order in which it has looked at them: by its sectors.
            let find = "until grep -lx 131072 /sys/block/sd*/size; do usleep 50000; done"
            let path = try guest.run(find + " | tail -n 1")
            let name = try #require(path.split(separator: "/").dropFirst(2).first)
            for (place, other) in [(1, 0), (0, 1)] {
                // Into a file: what the agent says while it moves may be lost.
                let load = "exercise disk /dev/\(name) 64 20000 8 \(place)"
                try guest.run("rm -f /tmp/load; \(load) >/tmp/load 2>&1 &")
                try guest.run("sleep 1; pidof exercise")
                // The log is switched on and off again while rings run.
                try guest.beginMigration(within: .seconds(300))
                #expect(try Self.state(services[other]) == ["online", "online"])
                try guest.migrate(
                    to: .disks(of: services[place], as: setup), within: .seconds(300))
                // Its own disk and the shared one.
                #expect(try Self.state(services[place]) == ["online", "online"])
                #expect(try Self.state(services[other]) == ["unlocked", "unlocked"])
                let end = "until [ -s /tmp/load ]; do usleep 50000; done; cat /tmp/load"
                let report = try guest.run(end, within: .seconds(300))
                #expect(report.hasPrefix("disk ok: 20000 transfers"), "\(report)")
            }
            #expect(try guest.run("dmesg | grep -c 'I/O error' || true") == "0")
            try guest.powerOff()
            for service in services {
                #expect(service.terminate(within: .seconds(1)) == .exited(0))
                #expect(!service.log.contains("error"), "\(service.log)")
                try service.remove()
            }
            try FileManager.default.removeItem(atPath: folder)
        }
    }

    /// The states of a service's units.
    private static func state(_ service: Daemon) throws -> [String] {
        try service.control("status", "--json").components(separatedBy: "\"state\"").dropFirst()
            .compactMap { $0.split(separator: "\"").dropFirst().first.map(String.init) }
    }
}
