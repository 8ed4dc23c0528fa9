// SPDX-License-Identifier: Apache-2.0

import BlockStorage

/// Figures in the OpenMetrics 1.0 text format, or in the one of Prometheus that came before it.
struct OpenMetricsText {
    /// Which of the two.
    enum Dialect {
        case openMetrics
        /// Text format 0.0.4, which node_exporter reads: it knows no info, no units and no end, and
        /// a counter's family has the name of its samples.
        case prometheus
    }

    /// What the figures are of.
    enum Kind: String {
        case gauge, counter, histogram, info
    }

    private let dialect: Dialect
    /// Labels of every sample.
    private let common: [(String, String)]
    private(set) var text = ""

    init(_ dialect: Dialect, machine: String? = nil) {
        self.dialect = dialect
        common = machine.map { [("vm", $0)] } ?? []
    }

    /// Begins a family; its samples follow.
    mutating func family(_ name: String, _ kind: Kind, unit: String? = nil, _ help: String) {
        switch dialect {
        case .openMetrics:
            text += "# TYPE \(name) \(kind.rawValue)\n"
            if let unit { text += "# UNIT \(name) \(unit)\n" }
            text += "# HELP \(name) \(help)\n"
        case .prometheus:
            let suffix = kind == .counter ? "_total" : kind == .info ? "_info" : ""
            let known = kind == .info ? Kind.gauge : kind
            text += "# HELP \(name)\(suffix) \(help)\n"
            text += "# TYPE \(name)\(suffix) \(known.rawValue)\n"
        }
    }

    /// One figure of the family that was begun last.
    mutating func sample(_ name: String, _ labels: [(String, String)] = [], _ value: String) {
        let pairs = (common + labels).map { "\($0.0)=\"\(Self.escape($0.1))\"" }.joined(
            separator: ",")
        text += pairs.isEmpty ? "\(name) \(value)\n" : "\(name){\(pairs)} \(value)\n"
    }

    /// Ends the text.
    mutating func end() {
        if dialect == .openMetrics { text += "# EOF\n" }
    }

    private static func escape(_ value: String) -> String {
        var escaped = ""
        for character in value {
            switch character {
            case "\\": escaped += "\\\\"
            case "\"": escaped += "\\\""
            case "\n": escaped += "\\n"
            default: escaped.append(character)
            }
        }
        return escaped
    }

    /// Microseconds as seconds, exactly.
    static func seconds(microseconds: UInt64) -> String {
        let fraction = String(microseconds % 1_000_000)
        let digits = String(repeating: "0", count: 6 - fraction.count) + fraction
        return "\(microseconds / 1_000_000).\(digits)"
    }
}

extension ServiceStatus {
    /// The status as figures, documented in vhostd-metrics(7).
    func metrics(_ dialect: OpenMetricsText.Dialect) -> String {
        var text = OpenMetricsText(dialect, machine: machine)
        text.family("vhostd", .info, "The program.")
        text.sample("vhostd_info", [("version", version)], "1")
        text.family("vhostd_uptime_seconds", .gauge, unit: "seconds", "Time since the start.")
        text.sample("vhostd_uptime_seconds", [], "\(uptimeSeconds)")
        text.family("vhostd_device_responding", .gauge, "Whether a device's thread answers.")
        for device in silentDevices {
            text.sample("vhostd_device_responding", [("device", device)], "0")
        }
        if scsi != nil { text.sample("vhostd_device_responding", [("device", "scsi")], "1") }
        if vsock != nil { text.sample("vhostd_device_responding", [("device", "vsock")], "1") }
        text.family("vhostd_frontend_connected", .gauge, "Whether a front-end is connected.")
        for (device, isConnected) in [
            ("scsi", scsi?.isFrontEndConnected), ("vsock", vsock?.isFrontEndConnected),
        ] {
            guard let isConnected else { continue }
            text.sample("vhostd_frontend_connected", [("device", device)], isConnected ? "1" : "0")
        }
        if let scsi { text.add(scsi) }
        if let vsock { text.add(vsock) }
        text.end()
        return text.text
    }
}

// MARK: SCSI

extension OpenMetricsText {
    fileprivate mutating func add(_ scsi: SCSIStatus) {
        family(
            "vhostd_scsi_orphaned_queues", .gauge,
            "Stopped queues whose requests have not ended.")
        sample("vhostd_scsi_orphaned_queues", [], "\(scsi.orphanedQueueCount)")
        gauge("vhostd_lun_size_bytes", unit: "bytes", "Size of a unit.", scsi) { "\($0.byteCount)" }
        gauge("vhostd_lun_up", "Whether a unit can be reached.", scsi) {
            ["online", "up"].contains($0.state) ? "1" : "0"
        }
        gauge("vhostd_lun_waiting_requests", "Requests that a limit holds back.", scsi) {
            $0.waitingCount.map { "\($0)" }
        }
        counter("vhostd_lun_iscsi_logins", "Logins at an iSCSI target.", scsi) {
            $0.loginCount.map { [("", UInt64($0))] }
        }
        counter("vhostd_lun_requests", "Requests to a unit's file or device.", scsi) {
            $0.figures.map {
                [
                    ("read", $0.readCount), ("write", $0.writeCount), ("flush", $0.flushCount),
                    ("discard", $0.discardCount),
                ]
            }
        }
        counter("vhostd_lun_bytes", unit: "bytes", "Bytes that were asked for.", scsi) {
            $0.figures.map { [("read", $0.readByteCount), ("write", $0.writtenByteCount)] }
        }
        counter("vhostd_lun_delayed_requests", "Requests that a limit has held back.", scsi) {
            $0.figures.map { [("", $0.delayedCount)] }
        }
        addLatency(scsi)
    }

    private func labels(_ unit: UnitStatus) -> [(String, String)] {
        [("target", "\(unit.target)"), ("lun", "\(unit.lun)")]
    }

    private mutating func gauge(
        _ name: String, unit unitName: String? = nil, _ help: String, _ scsi: SCSIStatus,
        _ value: (UnitStatus) -> String?
    ) {
        family(name, .gauge, unit: unitName, help)
        for unit in scsi.units {
            if let value = value(unit) { sample(name, labels(unit), value) }
        }
    }

    private mutating func counter(
        _ name: String, unit unitName: String? = nil, _ help: String, _ scsi: SCSIStatus,
        _ values: (UnitStatus) -> [(operation: String, count: UInt64)]?
    ) {
        family(name, .counter, unit: unitName, help)
        for unit in scsi.units {
            for (operation, count) in values(unit) ?? [] {
                let extra = operation.isEmpty ? [] : [("operation", operation)]
                sample(name + "_total", labels(unit) + extra, "\(count)")
            }
        }
    }

    private mutating func addLatency(_ scsi: SCSIStatus) {
        let name = "vhostd_lun_latency_seconds"
        family(
            name, .histogram, unit: "seconds",
            "Time from the request to its end; every sixteenth read or write is timed.")
        for unit in scsi.units {
            guard let latency = unit.figures?.latency else { continue }
            var below: UInt64 = 0
            for (index, count) in latency.counts.enumerated() {
                below += count
                let bound =
                    index < LatencyHistogram.bounds.count
                    ? Self.seconds(microseconds: LatencyHistogram.bounds[index]) : "+Inf"
                sample(name + "_bucket", labels(unit) + [("le", bound)], "\(below)")
            }
            sample(name + "_count", labels(unit), "\(latency.count)")
            sample(name + "_sum", labels(unit), Self.seconds(microseconds: latency.total))
        }
    }
}

// MARK: vsock

extension OpenMetricsText {
    fileprivate mutating func add(_ vsock: VsockStatus) {
        family("vhostd_vsock_connections", .gauge, "Connections, open or closing.")
        sample("vhostd_vsock_connections", [], "\(vsock.connectionCount)")
        counter(
            "vhostd_vsock_packets", "Packets.", "direction",
            [
                ("from_guest", vsock.packetsFromGuest), ("to_guest", vsock.packetsToGuest),
            ])
        counter(
            "vhostd_vsock_bytes", unit: "bytes", "Bytes of payload.", "direction",
            [
                ("from_guest", vsock.bytesFromGuest), ("to_guest", vsock.bytesToGuest),
            ])
        counter(
            "vhostd_vsock_requests", "Connections that were asked for.", "direction",
            [
                ("from_guest", vsock.requestsFromGuest), ("to_guest", vsock.requestsToGuest),
            ])
        counter(
            "vhostd_vsock_stalls", "Times that the guest had no room.", "reason",
            [
                ("credit", vsock.creditStalls), ("receive_buffer", vsock.receiveBufferStalls),
            ])
        counter(
            "vhostd_vsock_failures", "What went wrong with a connection.", "reason",
            [
                ("malformed_packet", vsock.malformedPackets),
                ("foreign_packet", vsock.foreignPackets),
                ("refused", vsock.refusals), ("reset", vsock.resets),
                ("handshake", vsock.failedHandshakes), ("connect", vsock.failedConnects),
            ])
        single(
            "vhostd_vsock_violations", "Resets because the guest broke the protocol.",
            vsock.violations)
        single(
            "vhostd_vsock_forbidden", "Connections that the rules for ports forbid.",
            vsock.forbiddenConnects)
        single("vhostd_vsock_rests", "Times that a fast stream gathered for a moment.", vsock.rests)
        single(
            "vhostd_vsock_transport_resets",
            "Times that the driver was told that its connections are gone.", vsock.transportResets)
        single(
            "vhostd_vsock_uncaptured_packets", "Packets that are missing in the capture.",
            vsock.uncapturedPackets)
    }

    private mutating func single(_ name: String, _ help: String, _ count: UInt64?) {
        family(name, .counter, help)
        sample(name + "_total", [], "\(count ?? 0)")
    }

    private mutating func counter(
        _ name: String, unit: String? = nil, _ help: String, _ label: String,
        _ values: [(String, UInt64)]
    ) {
        family(name, .counter, unit: unit, help)
        for (value, count) in values { sample(name + "_total", [(label, value)], "\(count)") }
    }
}
