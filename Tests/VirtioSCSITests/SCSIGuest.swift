// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Driver
import LinuxIO
import Logging
import SCSI
import Stores
import Virtio
import VirtioSCSI

/// A driver of a virtio-scsi device with one disk in memory at target 0, LUN 0.
final class SCSIGuest {
    let memory: TestMemory
    let loop: EventLoop
    let store: MemoryStore
    let bus: SCSIBus
    let device: SCSIDevice
    let disk: Disk
    /// Servers of the device on loops of their own, which this thread turns, and their stores.
    private(set) var servers: [RequestServer] = []
    private(set) var twins: [MemoryStore] = []
    /// The control queue, the event queue, and the request queues.
    let rings: [any RingDriver]
    private(set) var queues: [Virtqueue] = []
    private let deviceMemory: GuestMemory
    let signals = SignalCounter()

    /// struct virtio_scsi_req_cmd, as it came back.
    struct Response: Equatable {
        var senseLength: UInt32
        var residual: UInt32
        var status: UInt8
        var response: UInt8
        var sense: [UInt8]
        var data: [UInt8]
        var usedLength: UInt32
        var tag: Int
    }

    init(
        _ format: RingFormat = .split, requestQueues: Int = 1, ringSize: Int = 128,
        features: UInt64 = 0b110, commandLimit: Int = 16384,
        blockCount: UInt64 = 4096, pollLimit: Duration = .zero, servers serverCount: Int = 0,
        ofServers allCount: Int? = nil
    ) throws {
        memory = try TestMemory(byteCount: 32 << 20)
        deviceMemory = try memory.deviceMemory()
        loop = try EventLoop()
        loop.pollLimit = pollLimit
        var geometry = BlockGeometry(blockSize: 512, blockCount: blockCount)
        geometry.discardGranularity = 512
        geometry.discardReadsZeroes = true
        store = MemoryStore(geometry: geometry, loop: loop)
        bus = SCSIBus(
            initiator: InitiatorPort(name: "guest"), commandLimit: commandLimit, loop: loop)
        disk = Disk(store: store, identity: DiskIdentity(stableFrom: "guest"))
        device = SCSIDevice(
            loop: loop, bus: bus, requestQueueCount: requestQueues,
            logger: Self.logger)
        var options = RingOptions(size: ringSize)
        options.region = 0
        let testMemory = memory
        rings = (0..<device.queueCount).map { _ in format.makeDriver(in: testMemory, options) }
        try addServers(serverCount, of: allCount ?? serverCount, pollLimit: pollLimit)
        if let lun = LUN(0) { bus.attach(disk, target: 0, lun: lun) }
        addRoutes(target: 0)
        device.featuresNegotiated(VirtioFeatures(rawValue: rings[0].features | features))
        try start(0..<device.queueCount)
        _ = try send([0x03, 0, 0, 0, 18, 0], in: [18])
    }

    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// Adds some of so many servers.
    private func addServers(_ count: Int, of allCount: Int, pollLimit: Duration) throws {
        for number in 0..<count {
            let loop = try EventLoop()
            loop.pollLimit = pollLimit
            let server = RequestServer(
                loop: loop, link: RequestLink(number: number, of: allCount, device: device),
                logger: Self.logger)
            device.add(server.address)
            servers.append(server)
            twins.append(
                MemoryStore(on: store.medium, geometry: store.geometry, loop: loop))
        }
        device.admitServers(to: disk)
    }

    /// Has the servers find the disk at LUN 0 of a target.
    func addRoutes(target: UInt8) {
        guard let gate = disk.gateKeeper?.gate, let lun = LUN(0) else { return }
        for (number, server) in servers.enumerated() {
            server.routes.insert(at: (target, lun), through: gate) {
                DiskTwin(
                    gate: gate, laneNumber: number, store: twins[number],
                    blockShift: disk.blockShift)
            }
        }
    }

    /// The server of a queue; nil when the device serves it.
    private func server(of queue: Int) -> RequestServer? {
        if queue < 2 || servers.isEmpty { return nil }
        let number = (queue - 2) % (servers.count + 1)
        return number == 0 ? nil : servers[number - 1]
    }

    /// Notifies whoever serves a queue.
    func notify(queue: Int) {
        guard let server = server(of: queue) else { return device.driverNotified(queueAt: queue) }
        server.driverNotified(queueAt: queue)
    }

    /// Starts queues, as a front-end does.
    func start(_ numbers: Range<Int>) throws {
        for number in numbers {
            let queue = try Virtqueue(
                rings[number].configuration, memory: deviceMemory, notifier: signals)
            queues.append(queue)
            if let server = server(of: number) {
                server.startQueue(queue, at: number)
            } else {
                device.startQueue(queue, at: number)
            }
            notify(queue: number)
        }
    }

    /// Stops a queue, and starts it again when nothing of it is under way: where it stood, or as new.
    func restart(_ number: Int, anew: Bool) throws {
        // What a server was told before comes before its stop, as letters do; it may poll meanwhile.
        for _ in 0..<20 { try turn() }
        if let server = server(of: number) {
            server.stopQueue(at: number)
        } else {
            device.stopQueue(at: number)
        }
        hold(false)
        for _ in 0..<200 where queues[number].outstandingCount > 0 {
            for store in [store] + twins { store.endAll() }
            try turn()
        }
        // What was put is published.
        try turn()
        if anew { rings[number].reset(start: 0) }
        var configuration = rings[number].configuration
        if !anew { configuration.base = queues[number].base }
        let queue = try Virtqueue(configuration, memory: deviceMemory, notifier: signals)
        queues[number] = queue
        if let server = server(of: number) {
            server.startQueue(queue, at: number)
        } else {
            device.startQueue(queue, at: number)
        }
        notify(queue: number)
    }

    /// A turn of the device's loop without waiting.
    func turn() throws {
        try loop.turn(waitingAtMost: .zero)
        for server in servers { try server.loop.turn(waitingAtMost: .zero) }
    }

    /// Requests that wait in the stores.
    var pendingCount: Int { twins.reduce(store.pendingCount) { $0 + $1.pendingCount } }

    /// Ends one of them.
    func endRequest(at place: Int) {
        var place = place
        for store in [store] + twins {
            if place < store.pendingCount { return store.end(at: place) }
            place -= store.pendingCount
        }
    }

    /// Whether the stores' requests wait to be ended.
    func hold(_ isHolding: Bool) {
        for store in [store] + twins { store.isHolding = isHolding }
    }

    /// The bytes before data-out.
    static func header(
        _ cdb: [UInt8], lun: [UInt8] = [1, 0, 0, 0, 0, 0, 0, 0], tag: UInt64 = 0,
        attribute: UInt8 = 0, cdbByteCount: Int = 32
    ) -> [UInt8] {
        lun + (0..<8).map { UInt8(truncatingIfNeeded: tag >> (8 * $0)) } + [attribute, 0, 0]
            + cdb + [UInt8](repeating: 0, count: cdbByteCount - cdb.count)
    }

    /// Offers a request: header and data-out, response and data-in in segments of these lengths.
    func offer(
        _ header: [UInt8], out: [[UInt8]] = [], in room: [Int] = [], response: [Int] = [108],
        queue: Int = 2, placement: Chain.Placement = .indirect, tag: Int = 0
    ) {
        let memory = memory
        let chain = Chain(
            readable: ([header] + out).map { memory.segment($0) },
            writable: (response + room).map { memory.segment(byteCount: $0, filledWith: 0xEE) },
            placement: placement)
        rings[queue].offer(chain, tag: tag)
        notify(queue: queue)
    }

    /// Takes the requests back that are done, and the memory of each.
    func reap(queue: Int = 2, senseByteCount: Int = 96) throws -> [Response] {
        try rings[queue].reapAll().map { buffer in
            defer { memory.free(buffer.chain) }
            let bytes = memory.read(buffer.chain.writable)
            func number(_ start: Int) -> UInt32 {
                (0..<4).reduce(0) { $0 | UInt32(bytes[start + $1]) << (8 * $1) }
            }
            let senseLength = number(0)
            return Response(
                senseLength: senseLength, residual: number(4), status: bytes[10],
                response: bytes[11], sense: Array(bytes[12..<12 + Int(min(senseLength, 96))]),
                data: Array(bytes[min(bytes.count, 12 + senseByteCount)...]),
                usedLength: buffer.writtenLength, tag: buffer.tag)
        }
    }

    /// Sends a command and waits for its answer.
    func send(
        _ cdb: [UInt8], out: [[UInt8]] = [], in room: [Int] = [],
        lun: [UInt8] = [1, 0, 0, 0, 0, 0, 0, 0], queue: Int = 2,
        placement: Chain.Placement = .indirect
    ) throws -> Response? {
        offer(
            Self.header(cdb, lun: lun), out: out, in: room, queue: queue, placement: placement)
        for _ in 0..<8 { try turn() }
        return try reap(queue: queue).first
    }

    /// Sends a control request; what the device wrote, once it has.
    func control(_ request: [UInt8], room: Int = 1) throws -> [UInt8]? {
        rings[0].offer(readable: [request], writable: [room])
        device.driverNotified(queueAt: 0)
        // With servers a function needs letters there and back.
        for _ in 0..<(servers.isEmpty ? 1 : 8) { try turn() }
        return try endedControl()
    }

    func endedControl() throws -> [UInt8]? {
        try rings[0].reap().map { rings[0].writtenBytes(of: $0) }
    }

    /// A task management request (virtio 1.3 §5.6.6.2).
    static func taskManagement(
        _ subtype: UInt8, tag: UInt8 = 0, lun: [UInt8] = [1, 0, 0, 0, 0, 0, 0, 0]
    ) -> [UInt8] {
        [0, 0, 0, 0, subtype, 0, 0, 0] + lun + [tag, 0, 0, 0, 0, 0, 0, 0]
    }
}

/// Counts the device's signals.
final class SignalCounter: DriverNotifier {
    private(set) var count = 0

    func notifyDriver() { count += 1 }
}
