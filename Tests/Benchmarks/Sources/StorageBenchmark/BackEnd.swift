// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import LinuxIO
import Logging
import SCSI
import Synchronization
import VhostUser
import VirtioSCSI

/// The scsi device as the service composes it, in front of a store that the product does not have.
enum BackEnd {
    /// Bytes of a disk that is no file.
    static let diskByteCount: UInt64 = 256 << 20

    /// Serves until it is killed, the request queues on so many threads.
    static func serve(
        socket: String, medium: String, pollLimit: Duration, threadCount: Int
    ) throws {
        let loop = try EventLoop()
        loop.pollLimit = pollLimit
        let bus = SCSIBus(initiator: InitiatorPort(name: "benchmark"), loop: loop)
        let store = try store(medium, loop)
        let disk = Disk(store: store, identity: DiskIdentity(stableFrom: "benchmark"))
        let device = SCSIDevice(
            loop: loop, bus: bus, requestQueueCount: threadCount, logger: Logger(label: "scsi"))
        let threads = try (1..<max(1, threadCount)).map {
            try BackEndThread(number: $0 - 1, of: device, pollLimit: pollLimit)
        }
        device.admitServers(to: disk)
        if let lun = LUN(0) {
            bus.attach(disk, target: 0, lun: lun)
            // Bytes in memory are the first thread's.
            for thread in threads where medium != "ram" {
                thread.addRoute(to: disk, file: (store as? FileStore)?.twin, lun: lun)
            }
        }
        guard let address = UnixAddress(path: socket) else { return }
        let server = try VhostUserServer(
            loop: loop, device: device, listener: try UnixListener(address),
            options: VhostUserOptions(name: "scsi"))
        try loop.run()
        withExtendedLifetime((server, threads)) {}
    }

    private static func store(_ medium: String, _ loop: EventLoop) throws -> any BlockStore {
        switch medium {
        case "null": return PlainStore(loop: loop, holdsBytes: false)
        case "ram": return PlainStore(loop: loop, holdsBytes: true)
        default: return try FileStore(path: medium, context: context(loop))
        }
    }

    static func context(_ loop: EventLoop) throws -> AIOContext {
        try AIOContext(loop: loop, workers: try WorkerPool(name: "worker", threadCount: 4))
    }
}

/// A thread that serves request queues, in front of a file or of nothing.
final class BackEndThread: Sendable {
    private let number: Int
    private let thread: LoopThread<Root>

    private final class Root {
        let server: RequestServer
        let context: AIOContext

        init(_ link: RequestLink, _ loop: EventLoop) throws {
            context = try BackEnd.context(loop)
            server = RequestServer(loop: loop, link: link, logger: Logger(label: "scsi"))
        }
    }

    private final class Started: Sendable {
        let address = Mutex<RequestServerAddress?>(nil)
    }

    init(number: Int, of device: SCSIDevice, pollLimit: Duration) throws {
        self.number = number
        let link = RequestLink(number: number, of: 16, device: device)
        let started = Started()
        thread = try LoopThread(name: "scsi-\(number + 2)") { loop in
            loop.pollLimit = pollLimit
            let root = try Root(link, loop)
            started.address.withLock { $0 = root.server.address }
            return root
        }
        if let address = started.address.withLock({ $0 }) { device.add(address) }
    }

    func addRoute(to disk: Disk, file: FileStoreTwin?, lun: LUN) {
        guard let gate = disk.gateKeeper?.gate else { return }
        let (number, blockShift) = (number, disk.blockShift)
        thread.post { root in
            root.server.routes.insert(at: (0, lun), through: gate) {
                let store: any BlockStore =
                    file.map { FileStore($0, context: root.context) }
                    ?? PlainStore(loop: root.server.loop, holdsBytes: false)
                return DiskTwin(
                    gate: gate, laneNumber: number, store: store, blockShift: blockShift)
            }
        }
    }
}
