// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests
import Targets
import Testing

/// Guests whose second disk is at a real iSCSI target.
@Suite("A real guest with a disk at an iSCSI target", .serialized)
struct ISCSIGuestTests {
    static let packed = GuestSetup(.uml, .packed, requestQueueCount: 1)
    static let split = GuestSetup(.uml, .split, requestQueueCount: 1)

    @Test("formats and mounts it, finds its tree again and trims", arguments: [packed, split])
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
            #expect(daemon.terminate(within: .seconds(10)) == .exited(0))
            try daemon.remove()
        }
    }

    /// One of the outages on split rings, too.
    static let outages = Outage.possible.map { ($0, packed) } + [(.killed, split)]

    @Test(
        "finds every block under fio as it wrote it, though the target goes again and again",
        arguments: outages)
    func outlivesTarget(outage: Outage, setup: GuestSetup) async throws {
        try await onOwnThread {
            let away = try UnsteadyTarget(outage)
            let daemon = try Daemon(
                disabledFeatures: setup.disabledFeatures, diskMebibytes: 16,
                furtherUnits: ["iscsi=\(away.target.url()),target=1,required"])
            let guest = try Guest(setup, on: daemon)
            let load = VerifiedGuestLoad(on: guest, device: "sdb")
            var rest = RestingCost(of: daemon)
            for round in 1...Outage.roundCount {
                try load.awaitProgress()
                let downCount = Self.downCount(daemon)
                try away.goAway()
                if outage.lasts { try load.awaitStandstill() }
                // Whom nobody hears from has gone after 15 seconds; mostly it is back by then.
                if outage.isHeardOf || round % 5 == 1 {
                    try load.wait(for: "the session's end") { Self.downCount(daemon) > downCount }
                }
                if outage.lasts { try rest.measure(for: .seconds(1)) }
                // A second disk is not disturbed.
                _ = try guest.run("dd if=/dev/sda of=/dev/null bs=64k count=16 2>&1")
                try away.comeBack()
            }
            try load.awaitProgress()
            try load.end()
            #expect(rest.share < 0.02, "of a processor while the target is away")
            #expect(try guest.run("dmesg | grep -c 'I/O error' || true") == "0")
            print("\(outage), \(Outage.roundCount) times: \(load.passCount) passes, \(rest)")
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(10)) == .exited(0))
            try daemon.remove()
        }
    }

    /// How often a session has ended.
    private static func downCount(_ daemon: Daemon) -> Int {
        daemon.log.components(separatedBy: "session down").count - 1
    }

    @Test("boots without it while the target is away, and gets it when the target comes")
    func hotPlug() async throws {
        try await onOwnThread {
            let target = try TgtTarget()
            target.kill()
            let daemon = try Daemon(
                diskMebibytes: 16, furtherUnits: ["iscsi=\(target.url()),target=1"])
            let guest = try Guest(Self.packed, on: daemon)
            #expect(try guest.run("ls /sys/block | grep -c '^sd'") == "1")
            try target.start()
            let disk = guest.start("until [ -b /dev/sdb ]; do usleep 20000; done; echo there")
            try disk.waitForLine("there", within: .seconds(300))
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(10)) == .exited(0))
            try daemon.remove()
        }
    }

    @Test("has its root file system on it, from boot to boot and through a kill of the target")
    func root() async throws {
        try await onOwnThread {
            var setUp = TgtTarget.Configuration()
            setUp.diskByteCounts = [256 << 20]
            let target = try TgtTarget(setUp)
            try RootFileSystem.write(to: target.disk(1))
            let daemon = try Daemon(
                diskMebibytes: 16, furtherUnits: ["iscsi=\(target.url()),target=1,required"])
            let devices = GuestDevices.served(by: daemon, as: Self.packed)
                .adding(umlArguments: ["guest.root=/dev/sdb"])
            let guest = try Guest(Self.packed, devices: devices)
            #expect(try guest.run("grep -c '^/dev/sdb / ext4 rw' /proc/mounts") == "1")
            let written = try guest.run(
                "dd if=/dev/urandom of=/kept bs=64k count=64 2>/dev/null; sync; sha256sum /kept")
            target.kill()
            let reader = guest.start("echo 3 >/proc/sys/vm/drop_caches; sha256sum /kept")
            try target.start()
            #expect(reader.waitForExit(within: .seconds(300)) == 0)
            #expect(reader.text == written)
            try guest.powerOff()
            let second = try Guest(Self.packed, devices: devices)
            #expect(try second.run("sha256sum /kept") == written)
            try second.powerOff()
            #expect(daemon.terminate(within: .seconds(10)) == .exited(0))
            try daemon.remove()
        }
    }
}
