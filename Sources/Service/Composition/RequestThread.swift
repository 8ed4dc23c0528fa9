// SPDX-License-Identifier: Apache-2.0

import FileBackstore
import LinuxIO
import Logging
import SCSI
import Synchronization
import VirtioSCSI

/// A thread that serves request queues of the SCSI device, with a way of its own to the kernel.
///
/// It is started and stopped by the device's thread.
final class RequestThread: Sendable {
    /// Where letters to its server go.
    let address: RequestServerAddress
    private let number: Int
    private let thread: LoopThread<Root>

    /// What lives on the thread.
    private final class Root {
        let server: RequestServer
        let context: AIOContext

        init(_ link: RequestLink, loop: EventLoop, workers: WorkerPool) throws {
            context = try AIOContext(loop: loop, workers: workers)
            server = RequestServer(loop: loop, link: link, logger: Logger(label: "scsi"))
        }
    }

    /// The server's address on its way from the thread.
    private final class StartedServer: Sendable {
        let address = Mutex<RequestServerAddress?>(nil)
    }

    /// Starts the thread.
    ///
    /// - Parameters:
    ///   - number: of the server, from 0.
    ///   - count: how many servers there are.
    ///   - device: whose queues it serves.
    ///   - pollLimit: how long it may look for requests before it sleeps.
    ///   - workers: for what blocks.
    /// - Throws: the errno of making the thread, its loop or its way to the kernel.
    init(
        number: Int, of count: Int, for device: SCSIDevice, pollLimit: Duration,
        workers: WorkerPool
    ) throws {
        let link = RequestLink(number: number, of: count, device: device)
        let started = StartedServer()
        // The device's own thread is the first one.
        thread = try LoopThread(name: "scsi-\(number + 2)") { loop in
            loop.pollLimit = pollLimit
            let root = try Root(link, loop: loop, workers: workers)
            started.address.withLock { $0 = root.server.address }
            return root
        }
        guard let address = started.address.withLock({ $0 }) else {
            preconditionFailure("a thread that has started has a server")
        }
        self.address = address
        self.number = number
    }

    deinit {
        stop()
    }

    /// Has the server reach the medium of a disk by itself.
    ///
    /// - Parameters:
    ///   - store: the disk's.
    ///   - disk: admits servers.
    ///   - place: where it stands.
    func addRoute(to store: FileStoreTwin, of disk: Disk, at place: (target: UInt8, lun: LUN)) {
        guard let gate = disk.gateKeeper?.gate else { return }
        let number = number
        let blockShift = disk.blockShift
        thread.post { root in
            root.server.routes.insert(at: place, through: gate) {
                DiskTwin(
                    gate: gate, laneNumber: number,
                    store: FileStore(store, context: root.context), blockShift: blockShift)
            }
        }
    }

    /// Ends the thread, and waits until it is gone; the queues have been stopped.
    func stop() {
        thread.post { $0.server.close() }
        thread.stopAndJoin()
    }
}
