// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Driver
import LinuxIO
import Logging
import SCSI
import Stores
import Synchronization
import Virtio
import VirtioSCSI

/// A driver of a device whose request queues are spread over threads: the first one's is turned by
/// whoever has the driver, the others run by themselves.
final class ThreadedGuest {
    let memory: TestMemory
    let loop: EventLoop
    let store: MemoryStore
    let bus: SCSIBus
    let device: SCSIDevice
    let disk: Disk
    let rings: [any RingDriver]
    private let threads: [LoopThread<ServerThread>]
    /// What was offered and has not come back, by queue and tag.
    private(set) var missing: [Int: Set<Int>] = [:]

    /// What lives on another thread.
    private final class ServerThread {
        let server: RequestServer
        let store: MemoryStore

        init(_ link: RequestLink, _ store: MemoryStore, loop: EventLoop) {
            server = RequestServer(loop: loop, link: link, logger: ThreadedGuest.logger)
            self.store = store
        }
    }

    private final class Started: Sendable {
        let address = Mutex<RequestServerAddress?>(nil)
    }

    /// An answer.
    struct Answer {
        let queue: Int
        let tag: Int
        let status: UInt8
        let response: UInt8
        let data: [UInt8]
    }

    struct NoAnswer: Error {
        let missing: [Int: Set<Int>]
    }

    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init(_ format: RingFormat, threadCount: Int, queueCount: Int) throws {
        let memory = try TestMemory(byteCount: 32 << 20)
        self.memory = memory
        loop = try EventLoop()
        let geometry = BlockGeometry(blockSize: 512, blockCount: 4096)
        store = MemoryStore(geometry: geometry, loop: loop)
        bus = SCSIBus(initiator: InitiatorPort(name: "guest"), loop: loop)
        disk = Disk(store: store, identity: DiskIdentity(stableFrom: "guest"))
        device = SCSIDevice(
            loop: loop, bus: bus, requestQueueCount: queueCount, logger: Self.logger)
        var options = RingOptions(size: 64)
        options.region = 0
        rings = (0..<device.queueCount).map { _ in format.makeDriver(in: memory, options) }
        threads = try (1..<threadCount).map { [device, medium = store.medium] number in
            let link = RequestLink(
                number: number - 1, of: threadCount - 1, device: device)
            let started = Started()
            let thread = try LoopThread(name: "server") { loop in
                let root = ServerThread(
                    link, MemoryStore(on: medium, geometry: geometry, loop: loop), loop: loop)
                started.address.withLock { $0 = root.server.address }
                return root
            }
            if let address = started.address.withLock({ $0 }) { device.add(address) }
            return thread
        }
        device.admitServers(to: disk)
        if let lun = LUN(0) { attach(at: lun) }
        device.featuresNegotiated(VirtioFeatures(rawValue: rings[0].features | 0b110))
        for number in rings.indices { try start(number) }
    }

    /// Puts the disk at its place, and has the threads find it.
    func attach(at lun: LUN) {
        bus.attach(disk, target: 0, lun: lun)
        guard let gate = disk.gateKeeper?.gate else { return }
        let blockShift = disk.blockShift
        for (number, thread) in threads.enumerated() {
            thread.post { root in
                root.server.routes.insert(at: (0, lun), through: gate) {
                    DiskTwin(
                        gate: gate, laneNumber: number, store: root.store, blockShift: blockShift)
                }
            }
        }
    }

    private func thread(of queue: Int) -> LoopThread<ServerThread>? {
        if queue < 2 { return nil }
        let number = (queue - 2) % (threads.count + 1)
        return number == 0 ? nil : threads[number - 1]
    }

    private func start(_ number: Int) throws {
        let queue = try Virtqueue(
            rings[number].configuration, memory: memory.deviceMemory(), notifier: nil)
        guard let thread = thread(of: number) else {
            return device.startQueue(queue, at: number)
        }
        let handover = Handover(queue)
        thread.post { root in
            guard let queue = handover.take() else { return }
            root.server.startQueue(queue, at: number)
        }
    }

    /// Stops everything, and waits for the threads.
    func stop() throws {
        for number in rings.indices {
            guard let thread = thread(of: number) else {
                device.stopQueue(at: number)
                continue
            }
            thread.post { $0.server.stopQueue(at: number) }
        }
        for _ in 0..<8 { try loop.turn(waitingAtMost: .milliseconds(1)) }
        for thread in threads {
            thread.post { $0.server.close() }
            thread.stopAndJoin()
        }
    }

    // MARK: Requests

    func offer(
        _ cdb: [UInt8], out: [[UInt8]] = [], room: Int = 0, attribute: UInt8 = 0, tag: Int,
        queue: Int
    ) {
        let memory = memory
        let header = SCSIGuest.header(cdb, tag: UInt64(tag), attribute: attribute)
        missing[queue, default: []].insert(tag)
        rings[queue].offer(
            Chain(
                readable: ([header] + out).map { memory.segment($0) },
                writable: ([108] + (room > 0 ? [room] : [])).map {
                    memory.segment(byteCount: $0, filledWith: 0xEE)
                }, placement: .indirect), tag: tag)
        notify(queue)
    }

    private func notify(_ queue: Int) {
        guard let thread = thread(of: queue) else { return device.driverNotified(queueAt: queue) }
        thread.post { $0.server.driverNotified(queueAt: queue) }
    }

    /// Asks for a function; it is answered among the others, as queue 0.
    func manage(_ subtype: UInt8, tag: Int) {
        missing[0, default: []].insert(tag)
        let memory = memory
        rings[0].offer(
            Chain(
                readable: [memory.segment(SCSIGuest.taskManagement(subtype, tag: UInt8(tag)))],
                writable: [memory.segment(byteCount: 1, filledWith: 0xEE)]), tag: tag)
        notify(0)
    }

    /// Turns the first thread's loop until everything that was offered has come back.
    func takeAnswers(_ body: (Answer) throws -> Void) throws {
        var idleTurns = 0
        while missing.values.contains(where: { !$0.isEmpty }) {
            try loop.turn(waitingAtMost: .milliseconds(1))
            idleTurns += 1
            for queue in rings.indices where queue != 1 {
                while let buffer = try rings[queue].reap() {
                    idleTurns = 0
                    let bytes = memory.read(buffer.chain.writable)
                    memory.free(buffer.chain)
                    missing[queue]?.remove(buffer.tag)
                    try body(Self.answer(bytes, queue: queue, tag: buffer.tag))
                }
            }
            guard idleTurns < 60_000 else { throw NoAnswer(missing: missing) }
        }
    }

    private static func answer(_ bytes: [UInt8], queue: Int, tag: Int) -> Answer {
        guard bytes.count >= 108 else {
            return Answer(
                queue: queue, tag: tag, status: 0, response: bytes.first ?? 0xEE, data: [])
        }
        return Answer(
            queue: queue, tag: tag, status: bytes[10], response: bytes[11],
            data: Array(bytes[108...]))
    }
}
