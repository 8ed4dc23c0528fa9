// SPDX-License-Identifier: Apache-2.0

/// Something that can be set for a service: in a file, in the environment, or by a flag.
///
/// The logical units have keys of their own, a set for each unit: see `LUNSpecification`.
public struct ConfigurationKey: Equatable, Sendable {
    /// What a value may be.
    enum Kind: Equatable, Sendable {
        case text
        case number(ClosedRange<UInt64>)
        case boolean
        case choice([String])
        /// Any number of texts; a higher place replaces the whole list of a lower one.
        case texts
    }

    /// In a file: the table, a dot, and the key; the key alone outside of tables.
    public let name: String
    /// On the command line.
    public let flag: String
    let kind: Kind
    /// What counts when it is set nowhere, as a file has it; nil for nothing.
    let fallback: TOMLValue?
    /// One line for people.
    public let summary: String

    private init(
        _ name: String, flag: String, _ kind: Kind, fallback: TOMLValue? = nil, _ summary: String
    ) {
        self.name = name
        self.flag = flag
        self.kind = kind
        self.fallback = fallback
        self.summary = summary
    }

    /// The environment variable; lists have none.
    public var variable: String? {
        if kind == .texts { return nil }
        let letters = name.map { $0 == "." || $0 == "-" ? "_" : $0 }
        return "VHOSTD_" + String(letters).uppercased()
    }

    /// The table of a file that the key stands in; empty outside of tables.
    var table: String {
        name.lastIndex(of: ".").map { String(name[..<$0]) } ?? ""
    }

    /// The key within its table.
    var shortName: String {
        name.lastIndex(of: ".").map { String(name[name.index(after: $0)...]) } ?? name
    }
}

extension ConfigurationKey {
    /// Every key, in the order in which they are documented and shown.
    public static let all =
        [
            withheldFeatures, logLevel, controlSocket, metricsPath, metricsInterval, scsiSocket,
            pollLimit, scsiThreads, scsiInitiator, lockDisks, vsockSocket, guestCID, vsockPath,
        ] + VsockSettings.Name.allCases.map { vsock($0) }

    public static let withheldFeatures = ConfigurationKey(
        "disable-features", flag: "--disable-feature", .texts, fallback: .array([]),
        "Features that are not offered to the front-end.")
    public static let logLevel = ConfigurationKey(
        "log.level", flag: "--log-level", .choice(LogLevel.allCases.map(\.rawValue)),
        fallback: .string("info"), "The least severe message that is logged.")
    public static let controlSocket = ConfigurationKey(
        "control.socket", flag: "--control-socket", .text, "Where vhostd ctl connects.")
    public static let metricsPath = ConfigurationKey(
        "metrics.textfile", flag: "--metrics-textfile", .text,
        "A file for node_exporter's textfile collector; its name ends in .prom.")
    public static let metricsInterval = ConfigurationKey(
        "metrics.interval", flag: "--metrics-interval", .number(1...86400), fallback: .integer(15),
        "Seconds between two times of writing the file.")
    public static let scsiSocket = ConfigurationKey(
        "scsi.socket", flag: "--scsi-socket", .text, "Where the front-end connects for SCSI.")
    public static let pollLimit = ConfigurationKey(
        "scsi.poll-us", flag: "--poll-us", .number(0...1000),
        "Microseconds that the SCSI device may look for requests before it sleeps.")
    public static let scsiThreads = ConfigurationKey(
        "scsi.threads", flag: "--scsi-threads", .number(1...64),
        "Threads that the SCSI device's request queues are spread over.")
    public static let scsiInitiator = ConfigurationKey(
        "scsi.initiator", flag: "--scsi-initiator", .text,
        "The machine's name in reservations; the socket's path, if it is not given.")
    public static let lockDisks = ConfigurationKey(
        "scsi.lock-disks", flag: "--lock-disks", .choice(DiskLocking.allCases.map(\.rawValue)),
        "When disks are locked: with the service's start, or with the guest's, which migrates here."
    )
    public static let vsockSocket = ConfigurationKey(
        "vsock.socket", flag: "--vsock-socket", .text, "Where the front-end connects for vsock.")
    public static let guestCID = ConfigurationKey(
        "vsock.guest-cid", flag: "--guest-cid", .number(0...UInt64.max),
        "The guest's context identifier, 3 to 4294967294.")
    public static let vsockPath = ConfigurationKey(
        "vsock.path", flag: "--vsock-path", .text,
        "Where host programs connect to reach the guest.")

    /// A setting of the vsock device; `VsockSettings` reads its texts.
    public static func vsock(_ name: VsockSettings.Name) -> ConfigurationKey {
        let prefix = name == .capture || name == .captureLimit ? "--" : "--vsock-"
        return ConfigurationKey(
            "vsock.\(name.rawValue)", flag: prefix + name.rawValue, kind(of: name), name.summary)
    }

    private static func kind(of name: VsockSettings.Name) -> Kind {
        switch name {
        case .listen, .connect, .allow, .deny, .group: .texts
        case .siblings, .capture: .text
        case .connections, .clients: .number(1...65_536)
        case .waitForGuest: .number(0...3600)
        case .captureLimit: .number(1...1_048_576)
        }
    }
}
