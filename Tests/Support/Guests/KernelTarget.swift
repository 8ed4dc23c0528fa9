// SPDX-License-Identifier: Apache-2.0

/// LIO, the kernel's own iSCSI target, in a guest, with a disk in memory as LUN 0.
public struct KernelTarget: Sendable {
    /// Where it is, at a port of this machine's loopback.
    public let url: String
    public let guest: Guest

    /// Boots the guest and has it serve.
    public init(port: UInt16, mebibytes: Int) throws {
        let network = GuestDevices(qemuArguments: [
            "-netdev", "user,id=network,hostfwd=tcp:127.0.0.1:\(port)-:3260",
            "-device", "virtio-net-pci,netdev=network",
        ])
        guest = try Guest(GuestSetup(.qemu, .split, requestQueueCount: 1), devices: network)
        let report = try guest.run("/scenarios/lio \(mebibytes)")
        guard report.hasSuffix("lio serves") else { throw GuestError("no target: \(report)") }
        url = "iscsi://127.0.0.1:\(port)/iqn.2026-01.com.example:disk/0"
    }
}
