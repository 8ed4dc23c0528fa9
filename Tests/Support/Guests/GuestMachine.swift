// SPDX-License-Identifier: Apache-2.0

/// The devices of a guest, as arguments of its machine.
public struct GuestDevices: Sendable {
    let qemuArguments: [String]
    let umlArguments: [String]

    public init(qemuArguments: [String] = [], umlArguments: [String] = []) {
        self.qemuArguments = qemuArguments
        self.umlArguments = umlArguments
    }

    /// The same, and more arguments of user-mode-linux, which is a kernel: its parameters.
    public func adding(umlArguments: [String]) -> GuestDevices {
        GuestDevices(
            qemuArguments: qemuArguments, umlArguments: self.umlArguments + umlArguments)
    }

    /// The same, and more arguments of QEMU.
    public func adding(qemuArguments: [String]) -> GuestDevices {
        GuestDevices(
            qemuArguments: self.qemuArguments + qemuArguments, umlArguments: umlArguments)
    }

    /// The SCSI device alone that a daemon serves, in QEMU: one that can migrate.
    public static func disks(of daemon: Daemon, as setup: GuestSetup) -> GuestDevices {
        let packed = "packed=" + (setup.ring == .packed ? "on" : "off")
        let queues = "num_queues=\(setup.requestQueueCount)"
        return GuestDevices(qemuArguments: [
            "-chardev", "socket,id=scsi,path=" + daemon.scsiSocketPath,
            "-device", "vhost-user-scsi-pci,chardev=scsi,\(queues),\(packed)",
        ])
    }

    /// The two devices that a daemon serves.
    public static func served(by daemon: Daemon, as setup: GuestSetup) -> GuestDevices {
        let packed = "packed=" + (setup.ring == .packed ? "on" : "off")
        let queues = "num_queues=\(setup.requestQueueCount)"
        return GuestDevices(
            qemuArguments: [
                "-chardev", "socket,id=scsi,path=" + daemon.scsiSocketPath,
                "-device", "vhost-user-scsi-pci,chardev=scsi,\(queues),\(packed)",
                "-chardev", "socket,id=vsock,path=" + daemon.vsockSocketPath,
                "-device", "vhost-user-vsock-pci,chardev=vsock,\(packed)",
            ],
            // 8 and 19 are the virtio device ids (virtio 1.3 §5).
            umlArguments: [
                "virtio_uml.device=\(daemon.scsiSocketPath):8",
                "virtio_uml.device=\(daemon.vsockSocketPath):19",
            ])
    }
}

/// The command line that boots a guest's machine.
struct GuestMachine {
    static let memory = "256M"

    let setup: GuestSetup
    let devices: GuestDevices
    /// Where the machine leaves files: `console.log`, the kernel's console, and the socket of the
    /// monitor under QEMU; user-mode-linux has the console on standard error, and a folder with its
    /// process identifier and its control socket.
    let folder: String
    /// How often the guest has moved before it comes to this machine.
    var moveCount = 0

    /// The kernel's console under QEMU; one file for all machines of a guest.
    static func consolePath(in folder: String) -> String { folder + "/console.log" }

    /// Where the monitor of QEMU listens.
    static func monitorPath(in folder: String, moveCount: Int) -> String {
        folder + "/monitor-\(moveCount).sock"
    }

    /// The program and its arguments; the agent is on its standard input and output.
    func command() throws -> [String] {
        switch setup.machine {
        case .qemu: try qemuCommand()
        case .uml: try umlCommand()
        }
    }

    /// A processor for each request queue, for the driver uses no more queues than it has processors.
    private func qemuCommand() throws -> [String] {
        let kernelArguments = [
            "console=ttyS0", "panic=-1", "loglevel=7", "mitigations=off", "nokaslr", "tsc=reliable",
            "no_timer_check", "random.trust_cpu=on", "guest.channel=ttyS1",
        ]
        return [
            "qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "tcg,thread=multi",
            "-smp", "\(setup.requestQueueCount)", "-m", Self.memory,
            "-object", "memory-backend-memfd,id=memory,size=\(Self.memory),share=on",
            "-machine", "q35,memory-backend=memory",
            "-kernel", try Workspace.image("vmlinuz"), "-initrd", try Workspace.image("qemu.cpio"),
            "-append", kernelArguments.joined(separator: " "),
            "-chardev", "file,id=console,append=on,path=" + Self.consolePath(in: folder),
            "-serial", "chardev:console", "-qmp",
            "unix:\(Self.monitorPath(in: folder, moveCount: moveCount)),server=on,wait=off",
            "-chardev", "stdio,id=agent", "-serial", "chardev:agent",
        ] + devices.qemuArguments
    }

    private func umlCommand() throws -> [String] {
        [
            "linux.uml", "mem=" + Self.memory, "initrd=" + (try Workspace.image("uml.cpio")),
            "con=null", "con0=null,fd:2", "ssl=null", "ssl0=fd:0,fd:1", "panic=-1", "loglevel=7",
            "guest.channel=ttyS0", "uml_dir=" + folder,
        ] + devices.umlArguments
    }
}
