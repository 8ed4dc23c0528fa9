// SPDX-License-Identifier: Apache-2.0

/// All that one service does for one virtual machine.
public struct ServiceConfiguration: Equatable, Sendable {
    /// The vhost-user-scsi device; nil when it is left out.
    public var scsi: SCSIConfiguration?
    /// The vhost-user-vsock device; nil when it is left out.
    public var vsock: VsockConfiguration?
    /// Names of features that are not offered to the front-end.
    public var withheldFeatures: [String]
    /// The least severe message that is logged.
    public var logLevel: LogLevel
    /// The virtual machine's name, for the log: that of the file without its extension; nil without one.
    public var machine: String?
    /// Where `vhostd ctl` connects; nil for nowhere.
    public var controlSocket: String?
    /// Where the figures are written; nil for nowhere.
    public var metricsFile: MetricsFileConfiguration?

    public init(
        scsi: SCSIConfiguration? = nil, vsock: VsockConfiguration? = nil,
        withheldFeatures: [String] = [], logLevel: LogLevel = .info
    ) {
        self.scsi = scsi
        self.vsock = vsock
        self.withheldFeatures = withheldFeatures
        self.logLevel = logLevel
    }
}

extension ServiceConfiguration {
    /// Uses the sockets that the service manager has opened, by the names of the devices.
    mutating func adopt(_ sockets: [String: Int32]) {
        if let scsi = sockets["scsi"] { self.scsi?.descriptor = scsi }
        if let vsock = sockets["vsock"] { self.vsock?.descriptor = vsock }
    }
}

/// A file that holds the figures of a service.
public struct MetricsFileConfiguration: Equatable, Sendable {
    public var path: String
    /// Seconds between two times of writing.
    public var intervalSeconds: UInt64

    public init(path: String, intervalSeconds: UInt64) {
        self.path = path
        self.intervalSeconds = intervalSeconds
    }
}

/// The vhost-user-scsi device of a service.
public struct SCSIConfiguration: Equatable, Sendable {
    /// Where the front-end connects.
    public var socketPath: String
    /// What the guest sees; none is allowed: a bus without disks.
    public var luns: [LUNConfiguration]
    /// A socket that was passed instead: one that listens, or a connection.
    public var descriptor: Int32?
    /// How long the device may look for requests before it sleeps; zero for not at all.
    public var pollLimit = Duration.zero
    /// Threads that the request queues are spread over.
    public var threadCount = 1
    /// The machine's name in reservations; nil for what follows from the socket's path.
    public var initiatorName: String?
    /// When disks are locked.
    public var diskLocking = DiskLocking.atStart
    var locksDisksAtStart: Bool { diskLocking == .atStart }

    public init(socketPath: String, luns: [LUNConfiguration]) {
        self.socketPath = socketPath
        self.luns = luns
    }
}

/// When a service locks its disks.
public enum DiskLocking: String, CaseIterable, Sendable {
    /// When the service starts.
    case atStart = "at-start"
    /// When the guest starts, which until then may run elsewhere.
    case inUse = "in-use"
}

/// The vhost-user-vsock device of a service.
public struct VsockConfiguration: Equatable, Sendable {
    /// Where the front-end connects.
    public var socketPath: String
    /// The guest's context identifier (virtio 1.3 §5.10.4).
    public var guestCID: UInt64
    /// Where host programs connect to reach the guest; with `_<port>` appended, where the guest's
    /// own connections go.
    public var path: String
    /// A socket that was passed instead of the socket path: one that listens, or a connection.
    public var descriptor: Int32?
    /// Everything else.
    public var settings: VsockSettings

    public init(
        socketPath: String, guestCID: UInt64, path: String,
        settings: VsockSettings = VsockSettings()
    ) {
        self.socketPath = socketPath
        self.guestCID = guestCID
        self.path = path
        self.settings = settings
    }
}

/// How severe a message must be to be logged, least severe first.
public enum LogLevel: String, CaseIterable, Sendable {
    /// Each packet and command.
    case trace
    /// Decisions.
    case debug
    /// Started, connected, stopped.
    case info
    /// A peer broke the protocol and the service coped.
    case notice
    /// Degraded.
    case warning
    /// Data or a device is lost.
    case error
    /// The service ends.
    case critical
}
