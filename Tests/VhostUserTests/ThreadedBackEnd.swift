// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Glibc
import LinuxIO
import Sessions
import Synchronization
import Testing
import VhostUser
import Virtio

/// An echo device on a thread of its own, whose queues are served on two more: even ones on the
/// first, odd ones on the second.
final class ThreadedBackEnd {
    /// What lives on the device's thread.
    final class Owner {
        let device: EchoDevice
        let server: VhostUserServer

        init(_ device: EchoDevice, _ server: VhostUserServer) {
            self.device = device
            self.server = server
        }
    }

    static let queueCount = 3
    private static let serial = Atomic<Int>(0)

    let owner: LoopThread<Owner>
    let threads: [LoopThread<EchoServer>]
    let path: String

    init(_ limits: DrainLimits = DrainLimits()) throws {
        _ = signal(SIGPIPE, SIG_IGN)
        let number = Self.serial.wrappingAdd(1, ordering: .relaxed).newValue
        let folder = ProcessEnvironment.variable("TMPDIR") ?? "/tmp"
        let path = folder + "/vhost-user-threads-\(UInt32.random(in: 0 ... .max))-\(number).socket"
        self.path = path
        threads = try (0..<2).map { number in
            try LoopThread(name: "queues \(number)") { loop in
                EchoServer(loop: loop, device: Self.makeDevice())
            }
        }
        let addresses = threads.map { QueueServerAddress($0) }
        owner = try LoopThread(name: "device") { loop in
            let device = Self.makeDevice()
            device.servers = addresses
            guard let address = UnixAddress(path: path) else { throw FrontEndError.closed }
            return Owner(
                device,
                try VhostUserServer(
                    loop: loop, device: device, listener: try UnixListener(address),
                    options: VhostUserOptions(name: "echo", drainLimits: limits)))
        }
    }

    private static func makeDevice() -> EchoDevice {
        EchoDevice(features: BackEnd.features, queueCount: queueCount)
    }

    /// Asks what lives on a thread, there.
    func ask<Root, Value: Sendable>(
        _ thread: LoopThread<Root>, _ question: @escaping @Sendable (Root) -> Value
    ) throws -> Value {
        let answer = Answer<Value>()
        thread.post { root in answer.set(question(root)) }
        try eventually { answer.value != nil }
        return try #require(answer.value)
    }

    /// Stops the server, and ends the threads when it has stopped.
    func stop() throws {
        let isStopped = Answer<Bool>()
        owner.post { root in
            root.server.stop(deadline: .seconds(5)) { isStopped.set(true) }
        }
        try eventually { isStopped.value != nil }
        owner.stopAndJoin()
        for thread in threads { thread.stopAndJoin() }
    }
}

/// A value that comes from another thread.
private final class Answer<Value: Sendable>: Sendable {
    private let content = Mutex<Value?>(nil)

    var value: Value? { content.withLock { $0 } }

    func set(_ value: Value) { content.withLock { $0 = value } }
}

/// Something did not happen.
struct NeverHappened: Error {}

/// Waits until something is so, however busy the machine is.
func eventually(_ condition: () throws -> Bool) throws {
    let clock = SystemClock()
    let deadline = clock.now.advanced(byNanoseconds: 120_000_000_000)
    while try !condition() {
        if clock.now > deadline { throw NeverHappened() }
        usleep(200)
    }
}

/// A guest of a back-end with threads: two rings, one for each of them.
final class ThreadedGuest {
    let backEnd: ThreadedBackEnd
    let frontEnd: FrontEnd
    let memory: TestMemory
    let rings: [GuestRing]
    let vmm: QEMU

    init(
        _ backEnd: ThreadedBackEnd, _ format: RingFormat, memory: TestMemory? = nil
    ) throws {
        self.backEnd = backEnd
        let memory = try memory ?? TestMemory(byteCount: 4 << 20)
        self.memory = memory
        let vmm = try QEMU(.ten, .scsi)
        self.vmm = vmm
        rings = try (0..<2).map {
            try GuestRing(
                $0, format.makeDriver(in: memory, RingOptions(size: 64)),
                kickValue: vmm.kickValue)
        }
        frontEnd = try FrontEnd(path: backEnd.path)
        frontEnd.timeout = .seconds(120)
        try vmm.connect(frontEnd, ringCount: ThreadedBackEnd.queueCount)
    }

    func start() throws {
        try vmm.start(frontEnd, memory, rings, ringCount: ThreadedBackEnd.queueCount)
    }

    func stop() throws {
        try vmm.stop(frontEnd, memory, rings, ringCount: ThreadedBackEnd.queueCount)
    }

    /// Offers buffers on both rings, the tags counting on.
    func offer(_ tags: Range<Int>) {
        for tag in tags {
            for ring in rings {
                let bytes = Guest.pattern(tag + ring.index)
                ring.driver.offer(readable: [bytes], writable: [bytes.count], tag: tag)
            }
        }
    }

    /// Takes back what is there; checks what is in it, and that it comes in the order of the tags.
    ///
    /// The tag that each ring is to go on with is moved on.
    func reap(_ next: inout [Int]) throws {
        for ring in rings {
            for buffer in try ring.driver.reapAll() {
                try #require(buffer.tag == next[ring.index])
                try #require(
                    ring.driver.writtenBytes(of: buffer)
                        == Guest.pattern(buffer.tag + ring.index))
                ring.driver.memory.free(buffer.chain)
                next[ring.index] += 1
            }
        }
    }

    /// Offers that many buffers on each ring and waits until the last has come back.
    func exchange(_ count: Int, _ next: inout [Int]) throws {
        let first = next[0]
        var offered = first
        try eventually {
            while offered < first + count, offered - (next.min() ?? 0) < 16 {
                offer(offered..<offered + 1)
                offered += 1
            }
            try reap(&next)
            return next.allSatisfy { $0 == first + count }
        }
    }
}
