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
            let report = try guest.run("/scenarios/checksums /dev/sda", within: .seconds(300))
            #expect(report.hasSuffix("checksums scenario passed"))
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(2)) == .exited(0))
            try daemon.remove()
        }
    }
}
