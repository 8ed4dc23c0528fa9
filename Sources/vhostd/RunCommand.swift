// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Service

/// `vhostd run`: serves until it is asked to stop.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Serve a SCSI device, a vsock device, or both, until SIGTERM.",
        usage: """
            vhostd run --config FILE
            vhostd run --scsi-socket PATH --lun FILE ... \\
                       --vsock-socket PATH --guest-cid N --vsock-path PATH
            """,
        discussion: """
            EXAMPLES
              One disk and the host channel:
                vhostd run --scsi-socket /run/vm1/scsi.sock --lun disk.img \\
                           --vsock-socket /run/vm1/vsock.sock --guest-cid 3 \\
                           --vsock-path /run/vm1/vsock

              Two disks, the second read-only at target 1, LUN 3:
                vhostd run --scsi-socket scsi.sock --lun system.img \\
                           --lun target=1,lun=3,path=/dev/vg/data,readonly

              The guest's port 22 from the host, once the guest listens there:
                (echo CONNECT 22; cat) | socat - UNIX-CONNECT:/run/vm1/vsock

              All of it from a file:
                vhostd run --config /etc/vhostd/vm1.toml

            EXIT STATUS
              0 stopped as asked, 1 could not start or go on, 2 wrong command line or file.
            """)

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A file with the configuration; see vhostd.conf(5). Flags go before it.",
            valueName: "file"))
    var config: String?

    @OptionGroup var options: ServiceOptions

    func run() throws {
        try Service.run(try options.draft(file: config).configuration())
    }
}
