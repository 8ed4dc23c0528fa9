// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Service

/// The program: one process that serves the storage and the host channel of one virtual machine.
@main
struct Vhostd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vhostd",
        abstract: "Serves one virtual machine's disks and AF_VSOCK channel over vhost-user.",
        discussion: """
            A virtual machine monitor (QEMU, Cloud Hypervisor, crosvm, user-mode-linux) connects to
            the sockets; the guest sees a SCSI disk and a vsock device.
            """,
        version: Service.version,
        subcommands: [RunCommand.self, CheckCommand.self, ControlCommand.self, TopCommand.self])

    static func main() {
        guard let backEnd = BackEnd(programPath: CommandLine.arguments.first ?? "") else {
            return execute(self)
        }
        if CommandLine.arguments.contains("--print-capabilities") {
            print(backEnd.capabilities)
            exit(withStatus: .success)
        }
        execute(backEnd.command)
    }

    private static func execute(_ root: any ParsableCommand.Type) {
        var command: any ParsableCommand
        do {
            command = try root.parseAsRoot()
        } catch {
            exit(withUsageError: error, of: root)
        }
        do {
            try command.run()
        } catch let mistake as ConfigurationError {
            printError(mistake.description)
            exit(withStatus: .usage)
        } catch let failure as ServiceFailure {
            printError(failure.description)
            exit(withStatus: .failure)
        } catch {
            exit(withUsageError: error, of: type(of: command))
        }
    }
}

/// How the program ends.
enum ExitStatus: Int32 {
    /// It was asked to stop, and did.
    case success = 0
    /// It could not start, or could not go on.
    case failure = 1
    /// The command line or the configuration is wrong; starting it again the same way cannot help.
    case usage = 2
}
