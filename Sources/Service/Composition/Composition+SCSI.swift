// SPDX-License-Identifier: Apache-2.0

import FileBackstore
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
            let context = try AIOContext(
                loop: loop, workers: WorkerPool(name: "worker", threadCount: workerCount))
            let initiator = InitiatorPort(name: canonicalPath(configuration.socketPath))
            let bus = SCSIBus(initiator: initiator, loop: loop)
            let disks = try configuration.luns.map { lun in
                try attachDisk(lun, to: bus, context: context)
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
            return DeviceHost { limit, finished in
                server.stop(deadline: limit) {
                    for disk in disks { disk.close() }
                    finished()
                }
            }
        }
    }

    /// Opens what lies behind a logical unit and puts it at its place.
    private static func attachDisk(
        _ configuration: LUNConfiguration, to bus: SCSIBus, context: AIOContext
    ) throws -> Disk {
        let store = try FileStore(
            path: configuration.path, readOnly: configuration.isReadOnly,
            blockSize: configuration.blockSize, context: context)
        let identity = DiskIdentity(stableFrom: canonicalPath(configuration.path))
        let disk = Disk(store: store, identity: identity, isReadOnly: configuration.isReadOnly)
        guard let target = UInt8(exactly: configuration.target), let lun = LUN(configuration.lun),
            bus.attach(disk, target: target, lun: lun)
        else {
            throw ConfigurationError.repeatedLUN(
                target: configuration.target, lun: configuration.lun)
        }
        return disk
    }
}
