// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Service

/// What can be set of a service on the command line.
struct ServiceOptions: ParsableArguments {
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
                next free target. In the second form a comma within a path is written twice. Beside \
                a file: physical-block-size=BYTES; removable; vendor=, product=, revision=, serial= and wwn= \
                in place of what follows from the path; reservations=FILE, where persistent \
                reservations and saved mode parameters are kept; shared, so that the services of \
                several machines may have the disk at once: each with the same reservations=FILE, \
                through which they see each other's reservations. The same disk may stand at two places. \
                iops=, iops-burst=, bytes-per-second= and bytes-burst= limit what the guest may ask of it.

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
        help: ArgumentHelp(
            "How long the SCSI device may look for requests before it sleeps, 0 to 1000 (default: 0).",
            discussion: """
                Within that limit it looks for as long as has paid lately, and not at all when \
                requests are rare. 50 suits disks that answer in less time than that.
                """,
            valueName: "microseconds"))
    var pollUs: UInt64?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Threads that the SCSI device's request queues are spread over, 1 to 64 (default: 1).",
            valueName: "number"))
    var scsiThreads: UInt64?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The machine's name in reservations (default: the path of its SCSI socket). No two machines may have the same.",
            valueName: "name"))
    var scsiInitiator: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "When disks are locked: at-start (default), with the service's start; in-use, when the guest starts.",
            discussion: """
                in-use is for a guest that comes by live migration: until then another service has \
                the disks.
                """,
            valueName: "when"))
    var lockDisks: String?

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

    @OptionGroup(title: "VSOCK OPTIONS")
    var vsock: VsockFlags

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A feature that is not offered: \(Service.withholdableFeatures.joined(separator: ", ")). May be given again.",
            valueName: "name"))
    var disableFeature: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The least severe message that is logged: \(LogLevel.allCases.map(\.rawValue).joined(separator: ", ")) (default: info).",
            valueName: "level"))
    var logLevel: LogLevel?

    @Option(
        name: .long, help: ArgumentHelp("Where vhostd ctl connects.", valueName: "path"))
    var controlSocket: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A file that the figures are written to, in Prometheus' text format.", valueName: "path"
        ))
    var metricsTextfile: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Seconds between two times of writing that file (default: 15).", valueName: "seconds"))
    var metricsInterval: UInt64?

    /// What the file, the environment and these flags say, the later over the earlier.
    func draft(file: String?) throws(ConfigurationError) -> ConfigurationDraft {
        try RepeatedFlags.check(CommandLine.arguments.dropFirst())
        var draft = ConfigurationDraft()
        if let file { try draft.readFile(file) }
        try draft.readEnvironment(Service.environmentVariable)
        try draft.set(.scsiSocket, to: scsiSocket)
        try draft.set(.pollLimit, to: pollUs.map { "\($0)" })
        try draft.set(.scsiThreads, to: scsiThreads.map { "\($0)" })
        try draft.set(.scsiInitiator, to: scsiInitiator)
        try draft.set(.lockDisks, to: lockDisks)
        try draft.addUnits(lun)
        try draft.set(.vsockSocket, to: vsockSocket)
        try draft.set(.guestCID, to: guestCid.map { "\($0)" })
        try draft.set(.vsockPath, to: vsockPath)
        try vsock.write(to: &draft)
        try draft.set(.withheldFeatures, toAll: disableFeature)
        try draft.set(.logLevel, to: logLevel?.rawValue)
        try draft.set(.controlSocket, to: controlSocket)
        try draft.set(.metricsPath, to: metricsTextfile)
        try draft.set(.metricsInterval, to: metricsInterval.map { "\($0)" })
        return draft
    }
}

extension LogLevel: ExpressibleByArgument {}
