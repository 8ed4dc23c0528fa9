// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Service

/// The program under the names `vhost-user-scsi` and `vhost-user-vsock`: one device, with the flags
/// that vhost-user asks of every back-end ("Backend program conventions").
enum BackEnd: String, CaseIterable {
    case scsi = "vhost-user-scsi"
    case vsock = "vhost-user-vsock"

    /// The device that a program's name stands for; nil when it stands for `vhostd`.
    init?(programPath: String) {
        let name = programPath.split(separator: "/").last.map { String($0) } ?? ""
        self.init(rawValue: name)
    }

    /// What `--print-capabilities` prints.
    var capabilities: String {
        switch self {
        case .scsi: #"{"type": "scsi", "features": []}"#
        case .vsock: #"{"type": "vsock", "features": []}"#
        }
    }

    /// What is executed under that name.
    var command: any ParsableCommand.Type {
        switch self {
        case .scsi: SCSIBackEndCommand.self
        case .vsock: VsockBackEndCommand.self
        }
    }
}

/// Where the front-end is.
struct BackEndOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp("Listen for the front-end at this path.", valueName: "path"))
    var socketPath: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A descriptor that was passed: a socket that listens, or one that is connected; then the program ends with the connection.",
            valueName: "number"))
    var fd: Int32?

    @Flag(name: .long, help: "Print what the program can do, as JSON, and nothing else.")
    var printCapabilities = false

    @Option(name: .long, help: "The least severe message that is logged.")
    var logLevel: LogLevel?

    func validate() throws {
        guard (socketPath == nil) != (fd == nil) else {
            throw ValidationError("give --socket-path PATH, or --fd NUMBER")
        }
        if let fd, fd < 0 { throw ValidationError("--fd \(fd): no descriptor") }
    }

    /// What stands for the path where a descriptor was passed.
    var path: String { socketPath ?? "fd:\(fd ?? -1)" }
}

struct SCSIBackEndCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vhost-user-scsi", abstract: "Serve disks over vhost-user.",
        version: Service.version)

    @OptionGroup var backEnd: BackEndOptions

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A logical unit, as vhostd run has it. May be given again.", valueName: "file"))
    var lun: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The machine's name in reservations, as vhostd run has it.", valueName: "name"))
    var scsiInitiator: String?

    func run() throws {
        try RepeatedFlags.check(CommandLine.arguments.dropFirst())
        var draft = ConfigurationDraft()
        try draft.set(.scsiSocket, to: backEnd.path)
        try draft.set(.scsiInitiator, to: scsiInitiator)
        try draft.addUnits(lun)
        try draft.set(.logLevel, to: backEnd.logLevel?.rawValue)
        var configuration = try draft.configuration()
        configuration.scsi?.descriptor = backEnd.fd
        try Service.run(configuration)
    }
}

struct VsockBackEndCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vhost-user-vsock", abstract: "Serve AF_VSOCK over vhost-user.",
        version: Service.version)

    @OptionGroup var backEnd: BackEndOptions

    @Option(name: .long, help: ArgumentHelp("The guest's CID.", valueName: "number"))
    var guestCid: UInt64

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where host programs connect to reach the guest, as vhostd run has it.",
            valueName: "path"))
    var vsockPath: String

    func run() throws {
        try RepeatedFlags.check(CommandLine.arguments.dropFirst())
        var draft = ConfigurationDraft()
        try draft.set(.vsockSocket, to: backEnd.path)
        try draft.set(.guestCID, to: "\(guestCid)")
        try draft.set(.vsockPath, to: vsockPath)
        try draft.set(.logLevel, to: backEnd.logLevel?.rawValue)
        var configuration = try draft.configuration()
        configuration.vsock?.descriptor = backEnd.fd
        try Service.run(configuration)
    }
}
