// SPDX-License-Identifier: Apache-2.0

import FileBackstore
import ISCSIBackstore
import LinuxIO
import Logging
import SCSI
import VhostUser
import Virtio
import VirtioSCSI

extension Composition {
    /// Threads for what the kernel can only do by blocking: buffered files, freeing space.
    private static let workerCount = 4
    /// VIRTIO_SCSI_F_T10_PI: a driver that insists on it would send requests of another layout.
    private static let protectionInformation = VirtioFeatures.bit(3)

    /// The SCSI device with its server.
    static func scsiBuilder(
        _ configuration: SCSIConfiguration, withholding withheld: [String]
    ) -> DeviceBuilder {
        DeviceBuilder(name: "scsi") { loop in
            let workers = try WorkerPool(name: "worker", threadCount: workerCount)
            let context = try AIOContext(loop: loop, workers: workers)
            let initiator = InitiatorPort(name: canonicalPath(configuration.socketPath))
            let bus = SCSIBus(initiator: initiator, loop: loop)
            var disks = DiskShelf(bus: bus, context: context)
            var remoteUnits: [ISCSILogicalUnit] = []
            for lun in configuration.luns {
                if lun.iSCSI == nil {
                    try disks.attach(lun)
                } else if let unit = startRemoteUnit(lun, on: bus, loop: loop, workers: workers) {
                    remoteUnits.append(unit)
                }
            }
            for unit in remoteUnits where unit.isRequired {
                try unit.waitUntilReady(within: startLimit)
            }
            let device = SCSIDevice(
                loop: loop, bus: bus, requestQueueCount: SCSIDevice.requestQueueLimit,
                logger: Logger(label: "scsi"))
            var options = serverOptions(name: "scsi", withholding: withheld)
            options.indispensable = protectionInformation
            let server = try VhostUserServer(
                loop: loop, device: device, listener: listener(at: configuration.socketPath),
                options: options)
            server.frontEndLeft = ProcessEnvironment.releaseStartUpPages
            let allDisks = disks.disks
            return DeviceHost { limit, finished in
                server.stop(deadline: limit) {
                    for disk in allDisks { disk.close() }
                    for unit in remoteUnits { unit.close() }
                    finished()
                }
            }
        }
    }

    /// How long a unit at an iSCSI target that is required may take to be found.
    private static let startLimit = Duration.seconds(60)

    /// Begins to look for a unit at an iSCSI target; it is attached when it has been found.
    private static func startRemoteUnit(
        _ configuration: LUNConfiguration, on bus: SCSIBus, loop: EventLoop, workers: WorkerPool
    ) -> ISCSILogicalUnit? {
        guard let target = UInt8(exactly: configuration.target), let lun = LUN(configuration.lun),
            let iSCSI = configuration.iSCSI
        else { return nil }
        var log = Logger(label: "iscsi")
        log[metadataKey: "target"] = "\(configuration.target)"
        log[metadataKey: "lun"] = "\(configuration.lun)"
        let session = ISCSISession(
            iSCSI.session(
                machine: bus.initiator.name, target: configuration.target, lun: configuration.lun),
            loop: loop, pool: workers, log: log)
        let unit = ISCSILogicalUnit(
            session: session, bus: bus, isReadOnly: configuration.isReadOnly,
            isRequired: iSCSI.isRequired
        ) { [weak bus] unit in
            bus?.attach(unit, target: target, lun: lun)
        }
        session.start()
        return unit
    }
}
