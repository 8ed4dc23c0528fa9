// SPDX-License-Identifier: Apache-2.0

public import BlockStorage
import FoundationEssentials

extension ControlReply {
    /// The reply as it came over the socket.
    public var json: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
        // Strings and whole numbers can always be encoded.
        guard let data = try? encoder.encode(self) else { return "{}" }
        return String(decoding: data, as: UTF8.self)
    }
}

extension ControlRequest {
    /// Limits of a unit; nil for none.
    public static func limits(
        operations: UInt64?, operationBurst: UInt64?, bytes: UInt64?, byteBurst: UInt64?
    ) -> StoreLimits {
        StoreLimits(
            operationsPerSecond: operations, operationBurst: operationBurst, bytesPerSecond: bytes,
            byteBurst: byteBurst)
    }
}

/// For people.
extension ServiceStatus {
    /// The service and its devices, a line each.
    public var overviewTable: String {
        var table = Table(["DEVICE", "FRONT-END", "SOCKET", "SERVES"])
        if let scsi {
            table.add([
                "scsi", Self.isConnected(scsi.isFrontEndConnected), scsi.socket,
                (scsi.units.count == 1 ? "1 unit" : "\(scsi.units.count) units")
                    + Self.threads(scsi.threadCount)
                    + Self.draining(scsi.isDraining),
            ])
        }
        if let vsock {
            table.add([
                "vsock", Self.isConnected(vsock.isFrontEndConnected), vsock.socket,
                "CID \(vsock.guestCID), \(vsock.connectionCount) connections"
                    + Self.draining(vsock.isDraining),
            ])
        }
        for device in silentDevices { table.add([device, "does not answer", "", ""]) }
        return "vhostd \(version), up \(uptimeSeconds) s, log level \(logLevel)\n\n" + table.text
    }

    private static func isConnected(_ isConnected: Bool) -> String {
        isConnected ? "connected" : "none"
    }

    private static func threads(_ count: Int?) -> String {
        count.map { $0 > 1 ? ", \($0) threads" : "" } ?? ""
    }

    private static func draining(_ isDraining: Bool?) -> String {
        isDraining == true ? ", draining" : ""
    }

    /// The disks, a line each.
    public var unitTable: String {
        var table = Table([
            "TARGET", "LUN", "SIZE", "STATE", "MODE", "READS", "WRITES", "LIMITS", "SOURCE",
        ])
        for unit in scsi?.units ?? [] {
            table.add([
                "\(unit.target)", "\(unit.lun)", Table.bytes(unit.byteCount), unit.state,
                unit.isReadOnly ? "ro" : "rw",
                unit.figures.map { "\($0.readCount)" } ?? "-",
                unit.figures.map { "\($0.writeCount)" } ?? "-", unit.limits?.shown ?? "-",
                unit.source,
            ])
        }
        return table.text
    }

    /// The traffic over vsock, by direction.
    fileprivate var trafficTable: String {
        var table = Table(["DIRECTION", "REQUESTS", "PACKETS", "BYTES", "STALLS"])
        guard let vsock else { return "the service has no vsock device\n" }
        table.add([
            "guest to host", "\(vsock.requestsFromGuest)", "\(vsock.packetsFromGuest)",
            Table.bytes(vsock.bytesFromGuest), "-",
        ])
        table.add([
            "host to guest", "\(vsock.requestsToGuest)", "\(vsock.packetsToGuest)",
            Table.bytes(vsock.bytesToGuest), "\(vsock.creditStalls + vsock.receiveBufferStalls)",
        ])
        return "\(vsock.connectionCount) connections, \(vsock.resets) resets, "
            + "\(vsock.refusals + vsock.failedConnects + vsock.failedHandshakes) failed\n\n"
            + table.text
    }
}

extension ControlReply {
    /// The traffic over vsock, by direction and by connection.
    public var connectionTables: String {
        var table = Table([
            "GUEST", "PEER", "TYPE", "PACKETS FROM", "BYTES FROM", "PACKETS TO", "BYTES TO",
            "STALLS", "WAITS",
        ])
        for connection in connections ?? [] {
            table.add([
                "\(connection.guestPort)", "\(connection.peerCID):\(connection.peerPort)",
                connection.type, "\(connection.packetsFromGuest)",
                Table.bytes(connection.bytesFromGuest), "\(connection.packetsToGuest)",
                Table.bytes(connection.bytesToGuest), "\(connection.creditStalls)",
                Table.bytes(connection.waitingByteCount),
            ])
        }
        let overview = status?.trafficTable ?? ""
        return connections?.isEmpty == false ? overview + "\n" + table.text : overview
    }
}

extension StoreLimits {
    fileprivate var shown: String {
        var parts: [String] = []
        if let operationsPerSecond { parts.append("\(operationsPerSecond) IOPS") }
        if let bytesPerSecond { parts.append(Table.bytes(bytesPerSecond) + "/s") }
        return parts.isEmpty ? "none" : parts.joined(separator: ", ")
    }
}
