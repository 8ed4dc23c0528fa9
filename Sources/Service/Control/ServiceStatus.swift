// SPDX-License-Identifier: Apache-2.0

public import BlockStorage

/// What a service is and does: the answer to `status`.
public struct ServiceStatus: Codable, Equatable, Sendable {
    /// The program's version.
    public var version: String
    /// The virtual machine's name: that of the configuration's file; nil where there is none.
    public var machine: String?
    /// Seconds since the service started.
    public var uptimeSeconds: UInt64
    public var logLevel: String
    /// Devices that have not answered in time.
    public var silentDevices: [String] = []
    public var scsi: SCSIStatus?
    public var vsock: VsockStatus?
}

/// What a SCSI device is and does.
public struct SCSIStatus: Codable, Equatable, Sendable {
    /// Where the front-end connects.
    public var socket: String
    public var isFrontEndConnected: Bool
    /// Queues whose requests did not end in time when they were stopped.
    public var orphanedQueueCount: Int
    public var units: [UnitStatus]
    /// Whether nothing is taken from the guest; nil from a service that does not know of it.
    public var isDraining: Bool?
    /// Commands that were taken and not answered yet.
    public var underWayCount: Int?
    /// Threads that serve request queues; nil from a service that does not know of it.
    public var threadCount: Int?
}

/// Where the guest finds a logical unit.
public struct UnitPlace: Codable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var target: Int
    public var lun: Int

    public init(target: Int, lun: Int) {
        self.target = target
        self.lun = lun
    }

    public var description: String { "target \(target), LUN \(lun)" }

    public static func < (left: UnitPlace, right: UnitPlace) -> Bool {
        (left.target, left.lun) < (right.target, right.lun)
    }
}

/// What a logical unit is and does.
public struct UnitStatus: Codable, Equatable, Sendable {
    public var target: Int
    public var lun: Int
    /// A file's or device's path, or the URL of a unit at an iSCSI target without its secret.
    public var source: String
    /// `online`; for a unit at an iSCSI target what its session is doing.
    public var state: String
    public var isReadOnly: Bool
    public var blockSize: Int
    public var blockCount: UInt64
    /// What was asked of it; nil for a unit at an iSCSI target.
    public var figures: StoreFigures?
    public var limits: StoreLimits?
    /// Requests that wait because of a limit.
    public var waitingCount: Int?
    /// Logins of an iSCSI session.
    public var loginCount: Int?
    /// Why an iSCSI session is not up.
    public var lastError: String?

    public var place: UnitPlace { UnitPlace(target: target, lun: lun) }
    public var byteCount: UInt64 { blockCount &* UInt64(blockSize) }
}

/// What a vsock device is and does.
public struct VsockStatus: Codable, Equatable, Sendable {
    /// Where the front-end connects.
    public var socket: String
    public var isFrontEndConnected: Bool
    public var guestCID: UInt64
    /// Where host programs connect.
    public var path: String
    /// Connections, open or closing.
    public var connectionCount: Int
    /// Whether no connections are made; nil from a service that does not know of it.
    public var isDraining: Bool?
    public var packetsFromGuest: UInt64 = 0
    public var bytesFromGuest: UInt64 = 0
    public var packetsToGuest: UInt64 = 0
    public var bytesToGuest: UInt64 = 0
    public var requestsFromGuest: UInt64 = 0
    public var requestsToGuest: UInt64 = 0
    public var creditStalls: UInt64 = 0
    public var receiveBufferStalls: UInt64 = 0
    public var malformedPackets: UInt64 = 0
    public var foreignPackets: UInt64 = 0
    public var refusals: UInt64 = 0
    public var resets: UInt64 = 0
    public var failedHandshakes: UInt64 = 0
    public var failedConnects: UInt64 = 0
    /// These came later: nil from a service that does not count them.
    public var rests: UInt64?
    public var violations: UInt64?
    public var forbiddenConnects: UInt64?
    public var transportResets: UInt64?
    public var uncapturedPackets: UInt64?
}

/// A connection over vsock.
public struct ConnectionStatus: Codable, Equatable, Sendable {
    public var guestPort: UInt32
    /// Whom the guest talks with: 2 is the host, anything else a sibling.
    public var peerCID: UInt32
    public var peerPort: UInt32
    /// `stream` or `messages`.
    public var type: String
    public var packetsFromGuest: UInt64 = 0
    public var bytesFromGuest: UInt64 = 0
    public var packetsToGuest: UInt64 = 0
    public var bytesToGuest: UInt64 = 0
    /// Times that there were bytes for the guest and it granted no credit.
    public var creditStalls: UInt64 = 0
    /// Bytes of the guest that the host has not taken yet.
    public var waitingByteCount: UInt64 = 0
    /// Bytes that the guest grants now.
    public var guestCredit: UInt64 = 0

    public init(guestPort: UInt32, peerCID: UInt32, peerPort: UInt32, type: String) {
        self.guestPort = guestPort
        self.peerCID = peerCID
        self.peerPort = peerPort
        self.type = type
    }
}
