// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import ISCSIBackstore
import LinuxIO
import Logging
import SCSI
import VhostUser
import Virtio
import VirtioSCSI

/// A SCSI device with its server, its bus, and what is attached to it.
///
/// It lives on its device's thread.
final class SCSIHost: DeviceHost {
    /// Threads for what the kernel can only do by blocking: buffered files, freeing space.
    private static let workerCount = 4
    /// How long units at iSCSI targets that are required may take to be found.
    private static let startLimit = Duration.seconds(60)
    /// VIRTIO_SCSI_F_T10_PI: a driver that insists on it would send requests of another layout.
    private static let protectionInformation = VirtioFeatures.bit(3)

    /// A logical unit and what lies behind it.
    enum Unit {
        case disk(Disk, FileStore, MeteredStore, LUNConfiguration)
        case remote(ISCSILogicalUnit, LUNConfiguration)

        var configuration: LUNConfiguration {
            switch self {
            case .disk(_, _, _, let configuration), .remote(_, let configuration): configuration
            }
        }
    }

    let loop: EventLoop
    let workers: WorkerPool
    let context: AIOContext
    /// Disks that a worker is opening.
    let opening: OpeningDisks
    let bus: SCSIBus
    let device: SCSIDevice
    /// Threads that serve request queues beside the device's own.
    let threads: [RequestThread]
    let configuration: SCSIConfiguration
    let log = Logger(label: "scsi")
    private(set) var server: VhostUserServer?
    var units: [UnitPlace: Unit] = [:]

    /// Opens every unit, and waits for those at iSCSI targets that are required.
    init(
        _ configuration: SCSIConfiguration, loop: EventLoop, options: VhostUserOptions
    ) throws {
        self.loop = loop
        self.configuration = configuration
        loop.pollLimit = configuration.pollLimit
        workers = try WorkerPool(name: "worker", threadCount: Self.workerCount)
        context = try AIOContext(loop: loop, workers: workers)
        opening = try OpeningDisks(loop: loop, workers: workers)
        bus = SCSIBus(initiator: InitiatorPort(name: configuration.machineName), loop: loop)
        device = SCSIDevice(
            loop: loop, bus: bus, requestQueueCount: SCSIDevice.requestQueueLimit, logger: log)
        let serverCount = max(1, configuration.threadCount) - 1
        threads = try (0..<serverCount).map { [device, workers] number in
            try RequestThread(
                number: number, of: serverCount, for: device,
                pollLimit: configuration.pollLimit, workers: workers)
        }
        for thread in threads { device.add(thread.address) }
        for unit in configuration.luns { try Composition.doing("--lun") { try attach(unit) } }
        try Composition.doing("--lun") {
            try ISCSILogicalUnit.waitUntilReady(requiredUnits, within: Self.startLimit)
        }
        device.queueStopping = { [weak self] in self?.releaseWaiting() }
        var options = options
        options.indispensable = Self.protectionInformation
        server = try Composition.doing("--scsi-socket") {
            try Composition.server(
                of: device, at: configuration.socketPath, or: configuration.descriptor,
                loop: loop, options: options)
        }
        server?.guestStarts = { [weak self] in self?.lockDisks() }
        server?.guestStopped = { [weak self] in self?.unlockDisks() }
    }

    private var requiredUnits: [ISCSILogicalUnit] {
        units.values.compactMap {
            if case .remote(let unit, _) = $0, unit.isRequired { unit } else { nil }
        }
    }

    func stop(within limit: Duration, _ body: @escaping @Sendable () -> Void) {
        releaseWaiting()
        guard let server else { return body() }
        server.frontEndLeft = nil
        server.stop(deadline: limit) {
            for thread in self.threads { thread.stop() }
            self.closeAll()
            body()
        }
    }

    private func closeAll() {
        while let (_, unit) = units.popFirst() { close(unit) }
    }

    /// Ends what lies behind a unit that stands at none of the places any more.
    func close(_ unit: Unit) {
        switch unit {
        case .disk(let disk, _, _, _):
            for case .disk(let other, _, _, _) in units.values where other === disk { return }
            disk.close()
        case .remote(let unit, _): unit.close()
        }
    }

    /// Lets requests go that limits hold back, so that a queue that stops need not wait for them.
    private func releaseWaiting() {
        for case .disk(_, _, let meter, _) in units.values { meter.releaseWaiting() }
    }

    // MARK: Status

    var status: SCSIStatus {
        var status = SCSIStatus(
            socket: configuration.socketPath, isFrontEndConnected: server?.isServing ?? false,
            orphanedQueueCount: server?.orphanCount ?? 0,
            units: units.keys.sorted().compactMap { units[$0].map { Self.status(of: $0) } })
        status.isDraining = device.isDraining
        status.underWayCount = device.underWayCount
        status.threadCount = threads.count + 1
        return status
    }

    private static func status(of unit: Unit) -> UnitStatus {
        switch unit {
        case .disk(let disk, let store, let meter, let configuration):
            var status = UnitStatus(
                target: configuration.target, lun: configuration.lun, source: configuration.path,
                state: store.isLocked ? "online" : "unlocked", isReadOnly: configuration.isReadOnly,
                blockSize: store.geometry.blockSize, blockCount: store.geometry.blockCount)
            var figures = meter.figures
            if let keeper = disk.gateKeeper { figures.add(keeper.gate.figures) }
            status.figures = figures
            status.limits = meter.limits
            status.waitingCount = meter.waitingCount
            return status
        case .remote(let unit, let configuration):
            let session = unit.session
            var status = UnitStatus(
                target: configuration.target, lun: configuration.lun,
                source: configuration.iSCSI.map { $0.url.shown } ?? "",
                state: session.phase.rawValue, isReadOnly: configuration.isReadOnly,
                blockSize: session.unit?.blockSize ?? 0, blockCount: session.unit?.blockCount ?? 0)
            status.loginCount = session.loginCount
            status.lastError = session.phase == .up ? nil : session.lastError?.description
            return status
        }
    }
}

extension SCSIConfiguration {
    /// Whether no other service has the machine's name.
    var isMachineNamed: Bool { initiatorName != nil || !socketPath.hasPrefix("fd:") }

    /// What reservations know the machine by, the same whenever the service starts: the socket need
    /// not be there yet.
    var machineName: String {
        if let initiatorName { return initiatorName }
        if !isMachineNamed { return socketPath }
        guard let slash = socketPath.lastIndex(of: "/") else {
            return canonicalPath(".") + "/" + socketPath
        }
        let folder = slash == socketPath.startIndex ? "/" : String(socketPath[..<slash])
        let name = socketPath[socketPath.index(after: slash)...]
        let resolved = canonicalPath(folder)
        return (resolved == "/" ? "" : resolved) + "/" + name
    }
}

extension ISCSIURL {
    /// The URL without its secret.
    var shown: String {
        let user = user.map { $0 + "@" } ?? ""
        let portals = portals.map(\.description).joined(separator: ",")
        return "iscsi://\(user)\(portals)/\(targetName)/\(lun)"
    }
}
