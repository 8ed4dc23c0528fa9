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
            let port = ListeningSockets.freePort()
            let network = GuestDevices(qemuArguments: [
                "-netdev", "user,id=network,hostfwd=tcp:127.0.0.1:\(port)-:3260",
                "-device", "virtio-net-pci,netdev=network",
            ])
            let target = try Guest(
                GuestSetup(.qemu, .split, requestQueueCount: 1), devices: network)
            let report = try target.run("/scenarios/lio 64")
            #expect(report.hasSuffix("lio serves"), "\(report)")
            let url = "iscsi://127.0.0.1:\(port)/\(TgtTarget.name)/0"
            let daemon = try Daemon(
                diskMebibytes: 16, furtherUnits: ["iscsi=\(url),target=1,required"])
            let guest = try Guest(
                GuestSetup(.uml, .packed, requestQueueCount: 1), on: daemon)
            #expect(try guest.run("/scenarios/disk /dev/sdb").hasSuffix("disk scenario passed"))
            #expect(
                try guest.run("exercise disk /dev/sdb 32 2000 8 20260131")
                    == "disk ok: 2000 transfers by 8 threads over 32 MiB")
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(10)) == .exited(0))
            try daemon.remove()
            try target.powerOff()
        }
    }
}
