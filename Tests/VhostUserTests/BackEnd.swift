// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Glibc
import Kernel
import LinuxIO
import Sessions
import Synchronization
import Virtio

@testable import VhostUser

/// A server with an echo device behind it, on a loop that the test turns.
final class BackEnd {
    /// Everything that a device may offer: the rings' features, and SCSI's INOUT and HOTPLUG bits
    /// as features of its own.
    static let features: VirtioFeatures = [
        .version1, .ringPacked, .indirectDescriptors, .eventIndex, .inOrder, .bit(0), .bit(1),
    ]
    private static let serial = Atomic<Int>(0)

    let clock = ManualClock()
    let loop: EventLoop
    let device: EchoDevice
    /// Who serves the device's queues in its place; see `Placement`.
    let queueServers: [EchoServer]
    let log = LogRecorder()
    let path: String
    private(set) var server: VhostUserServer

    init(
        features: VirtioFeatures = BackEnd.features, queueCount: Int = 3,
        options: VhostUserOptions = VhostUserOptions(name: "echo")
    ) throws {
        // A pipe whose reading end is gone would end the process; the daemon ignores it, too.
        _ = signal(SIGPIPE, SIG_IGN)
        let number = Self.serial.wrappingAdd(1, ordering: .relaxed).newValue
        let folder = ProcessEnvironment.variable("TMPDIR") ?? "/tmp"
        path = folder + "/vhost-user-\(UInt32.random(in: .min ... .max))-\(number).socket"
        loop = try EventLoop(clock: clock)
        let (clock, device) = (clock, EchoDevice(features: features, queueCount: queueCount))
        self.device = device
        queueServers = try (0..<(Placement.current == .servers ? 2 : 0)).map { _ in
            EchoServer(loop: try EventLoop(clock: clock), device: device)
        }
        device.servers = queueServers.map(\.address)
        guard let address = UnixAddress(path: path) else { throw FrontEndError.closed }
        server = try VhostUserServer(
            loop: loop, device: device, listener: try UnixListener(address), options: options,
            logger: log.logger)
    }

    /// A front-end that is connected and gives the back-end its turns.
    func connect() throws -> FrontEnd {
        let frontEnd = try FrontEnd(path: path)
        let (loop, servers) = (loop, queueServers)
        frontEnd.pump = {
            for server in servers { try server.loop.turn(waitingAtMost: .zero) }
            try loop.turn(waitingAtMost: .milliseconds(1))
        }
        try turn()
        return frontEnd
    }

    /// Turns the loops until nothing more is to be done.
    func turn() throws {
        for _ in 0..<6 {
            try loop.turn(waitingAtMost: .zero)
            for server in queueServers { try server.loop.turn(waitingAtMost: .zero) }
        }
        try turnAlone()
    }

    /// Turns the device's own loop; whoever else serves its queues is busy.
    func turnAlone() throws {
        for _ in 0..<6 { try loop.turn(waitingAtMost: .zero) }
    }

    /// Lets time pass.
    func advance(by duration: Duration) throws {
        clock.advance(by: duration)
        try turn()
    }
}

/// A front-end with memory, and rings that are set up but not started.
final class Guest {
    let backEnd: BackEnd
    let frontEnd: FrontEnd
    let memory: TestMemory
    let rings: [GuestRing]
    let vmm: any VMM

    init(
        _ backEnd: BackEnd, _ vmm: (any VMM)? = nil, format: RingFormat = .split,
        ringCount: Int = 2, options: RingOptions = RingOptions(size: 16),
        memory: TestMemory? = nil
    ) throws {
        self.backEnd = backEnd
        let vmm = try vmm ?? QEMU(.ten, .scsi)
        self.vmm = vmm
        let memory = try memory ?? TestMemory(byteCount: 4 << 20)
        self.memory = memory
        rings = try (0..<ringCount).map {
            try GuestRing($0, format.makeDriver(in: memory, options), kickValue: vmm.kickValue)
        }
        frontEnd = try backEnd.connect()
        try vmm.connect(frontEnd, ringCount: backEnd.device.queueCount)
    }

    /// Starts the rings, in the way of the VMM.
    func start() throws {
        try vmm.start(frontEnd, memory, rings, ringCount: backEnd.device.queueCount)
        try backEnd.turn()
    }

    /// Stops the rings, in the way of the VMM.
    func stop() throws {
        try vmm.stop(frontEnd, memory, rings, ringCount: backEnd.device.queueCount)
    }

    /// Offers a buffer that the device is to echo.
    func offer(_ bytes: [UInt8], ring: Int = 0, tag: Int = 0) throws {
        rings[ring].driver.offer(readable: [bytes], writable: [bytes.count], tag: tag)
        try backEnd.turn()
    }

    /// What the device has written into the buffers that came back.
    func echoes(ring: Int = 0) throws -> [[UInt8]] {
        try rings[ring].driver.reapAll().map { rings[ring].driver.writtenBytes(of: $0) }
    }

    /// Offers a buffer and says what came back.
    func echo(_ bytes: [UInt8], ring: Int = 0) throws -> [[UInt8]] {
        try offer(bytes, ring: ring)
        return try echoes(ring: ring)
    }

    /// Bytes that differ from one number to the next.
    static func pattern(_ seed: Int, count: Int = 48) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: seed &* 31 &+ $0) }
    }
}
