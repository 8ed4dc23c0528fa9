// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import LinuxIO
import Logging
import SCSI
import VhostUser
import VirtioSCSI

/// The scsi device as the service composes it, in front of a store that the product does not have.
enum BackEnd {
    /// Bytes of a disk that is no file.
    static let diskByteCount: UInt64 = 256 << 20

    /// Serves until it is killed.
    static func serve(socket: String, medium: String, pollLimit: Duration) throws {
        let loop = try EventLoop()
        loop.pollLimit = pollLimit
        let bus = SCSIBus(initiator: InitiatorPort(name: "benchmark"), loop: loop)
        let disk = Disk(
            store: try store(medium, loop), identity: DiskIdentity(stableFrom: "benchmark"))
        if let lun = LUN(0) { bus.attach(disk, target: 0, lun: lun) }
        let device = SCSIDevice(
            loop: loop, bus: bus, requestQueueCount: 1, logger: Logger(label: "scsi"))
        guard let address = UnixAddress(path: socket) else { return }
        let server = try VhostUserServer(
            loop: loop, device: device, listener: try UnixListener(address),
            options: VhostUserOptions(name: "scsi"))
        try loop.run()
        withExtendedLifetime(server) {}
    }

    private static func store(_ medium: String, _ loop: EventLoop) throws -> any BlockStore {
        switch medium {
        case "null": return PlainStore(loop: loop, holdsBytes: false)
        case "ram": return PlainStore(loop: loop, holdsBytes: true)
        default:
            let workers = try WorkerPool(name: "worker", threadCount: 4)
            return try FileStore(
                path: medium, context: try AIOContext(loop: loop, workers: workers))
        }
    }
}
