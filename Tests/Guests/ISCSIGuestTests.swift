// SPDX-License-Identifier: Apache-2.0
import Guests
import Targets
import Testing

/// Guests whose second disk is at a real iSCSI target.
@Suite("A real guest with a disk at an iSCSI target", .serialized)
struct ISCSIGuestTests {
    static let setups = [
        GuestSetup(.uml, .split, requestQueueCount: 1),
        GuestSetup(.uml, .packed, requestQueueCount: 1),
    ]

    @Test("formats and mounts it, finds its tree again and trims", arguments: setups)
    func usesDisk(setup: GuestSetup) async throws {
        try await onOwnThread {
            let target = try TgtTarget()
            let daemon = try Daemon(
                disabledFeatures: setup.disabledFeatures, diskMebibytes: 16,
                furtherUnits: ["iscsi=\(target.url()),target=1,required"])
            let guest = try Guest(setup, on: daemon)
            let report = try guest.run("/scenarios/disk /dev/sdb")
            #expect(report.hasSuffix("disk scenario passed"))
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(2)) == .exited(0))
            try daemon.remove()
        }
    }

    @Test(
        "finds every block as it wrote it, though the target is killed again and again",
        arguments: setups)
    func outlivesTarget(setup: GuestSetup) async throws {
        try await onOwnThread {
            let target = try TgtTarget()
            let daemon = try Daemon(
                disabledFeatures: setup.disabledFeatures, diskMebibytes: 16,
                furtherUnits: ["iscsi=\(target.url()),target=1,required"])
            let guest = try Guest(setup, on: daemon)
            let load = guest.start("exercise disk /dev/sdb 32 30000 8 20260131")
            for _ in 1...10 {
                #expect(load.waitForExit(within: .milliseconds(200)) == nil, "\(load.text)")
                target.kill()
                // A second disk is not disturbed.
                _ = try guest.run("dd if=/dev/sda of=/dev/null bs=64k count=16 2>&1")
                try target.start()
            }
            #expect(load.waitForExit(within: .seconds(120)) == 0, "\(load.text)")
            #expect(load.text == "disk ok: 30000 transfers by 8 threads over 32 MiB")
            #expect(try guest.run("dmesg | grep -c 'I/O error' || true") == "0")
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(2)) == .exited(0))
            try daemon.remove()
        }
    }

    @Test("boots without it while the target is away, and gets it when the target comes")
    func hotPlug() async throws {
        try await onOwnThread {
            let setup = GuestSetup(.uml, .packed, requestQueueCount: 1)
            let target = try TgtTarget()
            target.kill()
            let daemon = try Daemon(
                diskMebibytes: 16, furtherUnits: ["iscsi=\(target.url()),target=1"])
            let guest = try Guest(setup, on: daemon)
            #expect(try guest.run("ls /sys/block | grep -c '^sd'") == "1")
            try target.start()
            let disk = guest.start("until [ -b /dev/sdb ]; do usleep 20000; done; echo there")
            try disk.waitForLine("there", within: .seconds(20))
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(2)) == .exited(0))
            try daemon.remove()
        }
    }
}
