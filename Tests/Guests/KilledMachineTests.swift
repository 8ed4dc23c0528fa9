// SPDX-License-Identifier: Apache-2.0
import Guests
import Testing

/// Guests that are killed while both devices are busy, a hundred in all.
@Suite("A machine that is killed in the middle of I/O")
struct KilledMachineTests {
    static let killCount = 50

    @Test(
        "leaves the daemon as it was, and the next guest is served",
        arguments: GuestSetup.Ring.allCases)
    func leavesNothingBehind(ring: GuestSetup.Ring) async throws {
        try await onOwnThread {
            let setup = GuestSetup(.qemu, ring, requestQueueCount: 1)
            let daemon = try Daemon(diskMebibytes: 64)
            let server = try StreamServer(at: .unix(path: daemon.hostPath + "_6000"))
            defer { server.stop() }
            let idle = try daemon.settledFootprint()
            for kill in 1...Self.killCount {
                try Self.bootAndKill(setup, on: daemon, after: .milliseconds(kill * 37 % 150))
                let left = try daemon.footprint(settledTo: idle, within: .seconds(300))
                try #require(
                    left.holdsAsMuch(as: idle), "after kill \(kill): \(left), at first: \(idle)")
            }
            let guest = try Guest(setup, on: daemon)
            try RealGuestTests.checkBothDevices(
                of: ServedGuest(daemon: daemon, idleFootprint: idle, guest: guest))
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(1)) == .exited(0))
            try daemon.remove()
        }
    }

    /// Boots a guest, makes its disk and a stream busy, and kills its machine a little later.
    private static func bootAndKill(
        _ setup: GuestSetup, on daemon: Daemon, after delay: Duration
    ) throws {
        let guest = try Guest(setup, on: daemon)
        let disk = guest.start(
            "until [ -b /dev/sda ]; do usleep 20000; done; exercise disk-load /dev/sda 64 8")
        _ = guest.start("exercise send vsock:2:6000 100000 6")
        try disk.waitForLine("disk busy")
        guest.kill(after: delay)
    }
}
