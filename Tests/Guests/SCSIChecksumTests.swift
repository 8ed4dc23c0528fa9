// SPDX-License-Identifier: Apache-2.0
import Guests
import Testing

/// A disk under fio, which checks every block that it reads.
@Suite("A disk under fio", .serialized)
struct SCSIChecksumTests {
    static let setups = [
        GuestSetup(.uml, .split, requestQueueCount: 1),
        GuestSetup(.uml, .packed, requestQueueCount: 1),
    ]

    @Test("gives back every block of 4 KiB to 1 MiB as it was written", arguments: setups)
    func checksums(setup: GuestSetup) async throws {
        try await onOwnThread {
            let daemon = try Daemon(
                disabledFeatures: setup.disabledFeatures, diskMebibytes: 64)
            let guest = try Guest(setup, on: daemon)
            let report = try guest.run("/scenarios/checksums /dev/sda", within: .seconds(900))
            #expect(report.hasSuffix("checksums scenario passed"))
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(2)) == .exited(0))
            try daemon.remove()
        }
    }

    @Test("is not disturbed by other disks that come, grow and go")
    func changes() async throws {
        try await onOwnThread {
            let daemon = try Daemon(diskMebibytes: 64, isControlled: true)
            let guest = try Guest(
                GuestSetup(.uml, .packed, requestQueueCount: 1), on: daemon)
            let other = daemon.folder + "/other.img"
            let load = guest.start("/scenarios/checksums /dev/sda")
            var rounds = 0
            while load.waitForExit(within: .milliseconds(20)) == nil && rounds < 1000 {
                _ = try DiskImage(path: other, mebibytes: 8)
                try daemon.control("lun", "add", "target=5,path=\(other)")
                _ = try DiskImage(path: other, mebibytes: 16)
                try daemon.control("lun", "resize", "5")
                try daemon.control("lun", "remove", "5")
                rounds += 1
            }
            #expect(load.waitForExit(within: .seconds(900)) == 0, "\(load.text)")
            #expect(load.text.hasSuffix("checksums scenario passed"))
            #expect(rounds > 0)
            try daemon.control("lun", "add", "target=5,path=\(other)")
            try guest.run(
                "until [ \"$(cat /sys/bus/scsi/devices/0:0:5:0/block/*/size)\" = 32768 ]; "
                    + "do usleep 20000; done 2>/dev/null")
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(2)) == .exited(0))
            try daemon.remove()
        }
    }
}
