// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FoundationEssentials

/// What a service does in a second: the difference of two looks at it.
public struct LiveRates: Codable, Equatable, Sendable {
    /// What is asked of a logical unit in a second.
    public struct Unit: Codable, Equatable, Sendable {
        public var target: Int
        public var lun: Int
        public var source: String
        public var reads: UInt64
        public var readBytes: UInt64
        public var writes: UInt64
        public var writtenBytes: UInt64
        /// Requests that a limit held back.
        public var delayed: UInt64
        /// Requests that wait because of a limit now.
        public var waitingCount: Int
        /// How long reads and writes took on the average, in microseconds, as far as they were timed;
        /// nil when none was.
        public var meanMicroseconds: UInt64?
    }

    /// What passes over a connection in a second.
    public struct Connection: Codable, Equatable, Sendable {
        public var guestPort: UInt32
        public var peerCID: UInt32
        public var peerPort: UInt32
        public var type: String
        public var bytesFromGuest: UInt64
        public var packetsFromGuest: UInt64
        public var bytesToGuest: UInt64
        public var packetsToGuest: UInt64
        public var creditStalls: UInt64
        /// Bytes of the guest that the host has not taken now.
        public var waitingByteCount: UInt64
    }

    /// Seconds since the service started.
    public var uptimeSeconds: UInt64
    /// Units at iSCSI targets are left out: their commands are not counted here.
    public var units: [Unit]
    /// The busiest first.
    public var connections: [Connection]

    /// Compares two answers to `connections`.
    ///
    /// What was not there at the first look counts from zero, and so does what has begun anew.
    ///
    /// - Parameters:
    ///   - before: the earlier answer.
    ///   - after: the later one.
    ///   - nanoseconds: the time between them, at least one.
    public init(from before: ControlReply, to after: ControlReply, nanoseconds: UInt64) {
        let rate = Rate(nanoseconds: max(1, nanoseconds))
        var unitsBefore: [UnitPlace: UnitStatus] = [:]
        for unit in before.status?.scsi?.units ?? [] { unitsBefore[unit.place] = unit }
        uptimeSeconds = after.status?.uptimeSeconds ?? 0
        units = (after.status?.scsi?.units ?? []).compactMap {
            Unit($0, since: unitsBefore[$0.place], rate)
        }
        var connectionsBefore: [ConnectionName: ConnectionStatus] = [:]
        for connection in before.connections ?? [] {
            connectionsBefore[connection.name] = connection
        }
        connections = (after.connections ?? [])
            .map { Connection($0, since: connectionsBefore[$0.name], rate) }
            .sorted { $0.order < $1.order }
    }
}

/// What tells connections of a guest apart.
private struct ConnectionName: Hashable {
    let guestPort: UInt32
    let peerCID: UInt32
    let peerPort: UInt32
    let type: String
}

extension ConnectionStatus {
    fileprivate var name: ConnectionName {
        ConnectionName(guestPort: guestPort, peerCID: peerCID, peerPort: peerPort, type: type)
    }
}

/// Turns differences into rates.
private struct Rate {
    let nanoseconds: UInt64

    func of(_ after: UInt64, since before: UInt64?) -> UInt64 {
        let before = before ?? 0
        let difference = Double(after >= before ? after - before : after)
        return UInt64((difference * 1e9 / Double(nanoseconds)).rounded())
    }
}

extension LiveRates.Unit {
    fileprivate init?(_ unit: UnitStatus, since before: UnitStatus?, _ rate: Rate) {
        guard let now = unit.figures else { return nil }
        // Another disk at the same place, or the same one anew.
        let counted = before?.source == unit.source ? before?.figures : nil
        let then = counted.flatMap { $0.readCount <= now.readCount ? $0 : nil }
        target = unit.target
        lun = unit.lun
        source = unit.source
        reads = rate.of(now.readCount, since: then?.readCount)
        readBytes = rate.of(now.readByteCount, since: then?.readByteCount)
        writes = rate.of(now.writeCount, since: then?.writeCount)
        writtenBytes = rate.of(now.writtenByteCount, since: then?.writtenByteCount)
        delayed = rate.of(now.delayedCount, since: then?.delayedCount)
        waitingCount = unit.waitingCount ?? 0
        let count = now.latency.count &- (then?.latency.count ?? 0)
        let total = now.latency.total &- (then?.latency.total ?? 0)
        meanMicroseconds = count == 0 ? nil : total / count
    }
}

extension LiveRates.Connection {
    fileprivate init(_ now: ConnectionStatus, since then: ConnectionStatus?, _ rate: Rate) {
        guestPort = now.guestPort
        peerCID = now.peerCID
        peerPort = now.peerPort
        type = now.type
        bytesFromGuest = rate.of(now.bytesFromGuest, since: then?.bytesFromGuest)
        packetsFromGuest = rate.of(now.packetsFromGuest, since: then?.packetsFromGuest)
        bytesToGuest = rate.of(now.bytesToGuest, since: then?.bytesToGuest)
        packetsToGuest = rate.of(now.packetsToGuest, since: then?.packetsToGuest)
        creditStalls = rate.of(now.creditStalls, since: then?.creditStalls)
        waitingByteCount = now.waitingByteCount
    }

    /// The busiest first; among the idle ones by their ports.
    fileprivate var order: (Double, UInt32, UInt32) {
        (-Double(bytesFromGuest) - Double(bytesToGuest), guestPort, peerPort)
    }
}

extension LiveRates {
    /// For people: the units, then as many connections as there are lines for.
    ///
    /// - Parameter lineLimit: lines of the terminal; the last one is left to the cursor.
    /// - Returns: tables.
    public func text(lineLimit: Int = .max) -> String {
        var table = Table(["TARGET", "LUN", "READ/S", "", "WRITE/S", "", "HELD", "TIME", "SOURCE"])
        for unit in units {
            table.add([
                "\(unit.target)", "\(unit.lun)", "\(unit.reads)", Table.bytes(unit.readBytes),
                "\(unit.writes)", Table.bytes(unit.writtenBytes), "\(unit.waitingCount)",
                unit.meanMicroseconds.map { "\($0) us" } ?? "-", unit.source,
            ])
        }
        let room = max(1, lineLimit - units.count - 6)
        var traffic = Table(["GUEST", "PEER", "TYPE", "FROM/S", "", "TO/S", "", "STALLS", "WAITS"])
        for connection in connections.prefix(room) {
            traffic.add([
                "\(connection.guestPort)", "\(connection.peerCID):\(connection.peerPort)",
                connection.type, "\(connection.packetsFromGuest)",
                Table.bytes(connection.bytesFromGuest), "\(connection.packetsToGuest)",
                Table.bytes(connection.bytesToGuest), "\(connection.creditStalls)",
                Table.bytes(connection.waitingByteCount),
            ])
        }
        return "up \(uptimeSeconds) s, \(connections.count) connections\n\n" + table.text + "\n"
            + traffic.text
    }

    /// One line of JSON.
    public var json: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Strings and whole numbers can always be encoded.
        guard let data = try? encoder.encode(self) else { return "{}" }
        return String(decoding: data, as: UTF8.self)
    }
}
