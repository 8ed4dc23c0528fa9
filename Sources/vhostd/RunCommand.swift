// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Service

/// `vhostd run`: serves until it is asked to stop.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Serve a SCSI device, a vsock device, or both, until SIGTERM.",
        usage: """
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

            EXIT STATUS
              0 stopped as asked, 1 could not start or go on, 2 wrong command line.
            """)

    @Option(
        name: .long, help: ArgumentHelp("Where the front-end connects for SCSI.", valueName: "path")
    )
    var scsiSocket: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A logical unit: FILE, or [target=N,][lun=N,]path=FILE[,readonly][,block-size=512|4096], or iscsi=URL in place of the path. May be given again.",
            discussion: """
                FILE is a regular file or a block device. Without a place it becomes LUN 0 of the \
                next free target. In the second form a comma within a path is written twice.

                URL is iscsi://[user[%secret]@]portal[:port][,,portal...]/target-name/lun. Beside it: \
                secret-file=FILE or secret-variable=NAME, so that the secret is not written here; \
                target-user=NAME with target-secret-file=FILE or target-secret-variable=NAME, for \
                a target that has to prove who it is; initiator=NAME; \
                header-digest=optional|off|required; required, so that the service waits for the \
                target at its start; replacement-timeout=SECONDS, how long commands wait for a \
                target that is away (120).
                """,
            valueName: "file"))
    var lun: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp("Where the front-end connects for vsock.", valueName: "path"))
    var vsockSocket: String?

    @Option(
        name: .long,
        help: ArgumentHelp("The guest's CID, from 3 to 4294967294.", valueName: "number"))
    var guestCid: UInt64?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where host programs connect to reach the guest: they send \"CONNECT <port>\" and a newline.",
            discussion: """
                A guest that connects to the host's port N reaches the Unix socket PATH_N.
                """,
            valueName: "path"))
    var vsockPath: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A feature that is not offered: \(Service.withholdableFeatures.joined(separator: ", ")). May be given again.",
            valueName: "name"))
    var disableFeature: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The least severe message that is logged: \(LogLevel.allCases.map(\.rawValue).joined(separator: ", ")).",
            valueName: "level"))
    var logLevel: LogLevel = .info

    func run() throws {
        let configuration: ServiceConfiguration
        do {
            configuration = try self.configuration()
            try configuration.check(knownFeatures: Service.withholdableFeatures)
        } catch {
            throw ValidationError(error.description)
        }
        try Service.run(configuration)
    }

    /// What the flags say, put together.
    private func configuration() throws(ConfigurationError) -> ServiceConfiguration {
        ServiceConfiguration(
            scsi: try scsiConfiguration(), vsock: try vsockConfiguration(),
            withheldFeatures: disableFeature, logLevel: logLevel)
    }

    private func scsiConfiguration() throws(ConfigurationError) -> SCSIConfiguration? {
        guard let scsiSocket else {
            if lun.isEmpty { return nil }
            throw .missingCompanion(flag: "--lun", companion: "--scsi-socket")
        }
        var specifications: [LUNSpecification] = []
        for text in lun { specifications.append(try LUNSpecification(text)) }
        return SCSIConfiguration(
            socketPath: scsiSocket, luns: try LUNSpecification.resolve(specifications))
    }

    private func vsockConfiguration() throws(ConfigurationError) -> VsockConfiguration? {
        guard let vsockSocket else {
            let given = guestCid != nil ? "--guest-cid" : vsockPath != nil ? "--vsock-path" : nil
            guard let given else { return nil }
            throw .missingCompanion(flag: given, companion: "--vsock-socket")
        }
        guard let guestCid else {
            throw .missingCompanion(flag: "--vsock-socket", companion: "--guest-cid")
        }
        guard let vsockPath else {
            throw .missingCompanion(flag: "--vsock-socket", companion: "--vsock-path")
        }
        return VsockConfiguration(socketPath: vsockSocket, guestCID: guestCid, path: vsockPath)
    }
}

extension LogLevel: ExpressibleByArgument {}
