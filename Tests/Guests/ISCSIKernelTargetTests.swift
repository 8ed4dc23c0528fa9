// SPDX-License-Identifier: Apache-2.0
import Guests
import Targets
import Testing

/// LIO, the kernel's own target, in one guest, and its initiator's guest beside it.
@Suite("A real guest with a disk at LIO", .serialized)
struct ISCSIKernelTargetTests {
    @Test("formats and mounts it, and finds every block as it wrote it")
    func usesDisk() async throws {
        try await onOwnThread {
            let target = try KernelTarget(port: ListeningSockets.freePort(), mebibytes: 64)
            let daemon = try Daemon(
                diskMebibytes: 16, furtherUnits: ["iscsi=\(target.url),target=1,required"])
            let guest = try Guest(
                GuestSetup(.uml, .packed, requestQueueCount: 1), on: daemon)
            #expect(try guest.run("/scenarios/disk /dev/sdb").hasSuffix("disk scenario passed"))
            #expect(
                try guest.run("exercise disk /dev/sdb 32 2000 8 20260131")
                    == "disk ok: 2000 transfers by 8 threads over 32 MiB")
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(10)) == .exited(0))
            try daemon.remove()
            try target.guest.powerOff()
        }
    }
}
