// SPDX-License-Identifier: Apache-2.0

import Driver
import Glibc
import LinuxIO
import Logging
import Testing
import Virtio

@testable import VirtioVsock

/// A guest without a kernel: its memory, the two rings of its vsock driver, and a device on a loop
/// that the test turns.
final class FakeGuest {
    /// What a test may want otherwise.
    struct Options {
        var format = RingFormat.split
        var ringSize = 256
        /// Segments of each receive buffer.
        var receiveBuffer = [3776]
        var receiveBufferCount: Int?
        var eventIndex = true
        var negotiatesMessages = true
        var cid: UInt64 = 3
        /// Whom the guest can reach beside the host.
        var siblings: Set<UInt64> = []
        /// Whether what passes is held to the rules, which a guest that keeps to none cannot be.
        var checksPackets = true
        /// Whether the device is handed the event queue.
        var hasEventQueue = false
        /// Where the device's messages go; nil for nowhere.
        var log: Logger?
        /// How long fast streams rest: most tests let the clock stand still.
        var rest = Duration.zero
        var memoryByteCount: UInt64 = 64 << 20
        /// The loop of several guests, and its clock; nil for one of its own.
        var shared: (loop: EventLoop, clock: TurnedClock)?
        var adjust: (inout VsockOptions) -> Void = { _ in }
    }

    let clock: TurnedClock
    let loop: EventLoop
    let memory: TestMemory
    let deviceMemory: GuestMemory
    let receiveRing: any RingDriver
    let transmitRing: any RingDriver
    let eventRing: any RingDriver
    private(set) var device: VsockDevice
    let directory: String
    let path: String
    let options: VsockOptions
    private let log: Logger
    let signals = SignalCounter()
    private var queues: [Virtqueue] = []
    private(set) var auditor: Auditor
    let cid: UInt64
    private let siblings: Set<UInt64>
    private let features: VirtioFeatures
    private let hasEventQueue: Bool
    private let checksPackets: Bool
    /// Whether receive buffers that come back are posted again.
    var postsBuffers = true
    /// Connections that play themselves; other packets go to `received`.
    var streams: [GuestStream] = [] { didSet { lastReceiver = nil } }
    private weak var lastReceiver: GuestStream?
    /// Packets of no stream.
    var received: [Packet] = []

    init(_ options: Options = Options()) throws {
        clock = options.shared?.clock ?? TurnedClock()
        loop = try options.shared?.loop ?? EventLoop(clock: clock)
        memory = try TestMemory(byteCount: options.memoryByteCount)
        deviceMemory = try memory.deviceMemory()
        let ring = RingOptions(size: options.ringSize, eventIndex: options.eventIndex)
        receiveRing = options.format.makeDriver(in: memory, ring)
        transmitRing = options.format.makeDriver(in: memory, ring)
        eventRing = options.format.makeDriver(in: memory, RingOptions(size: 8))
        cid = options.cid
        siblings = options.siblings
        hasEventQueue = options.hasEventQueue
        checksPackets = options.checksPackets
        auditor = Auditor(guestCID: cid, siblings: siblings)
        directory = try Self.makeDirectory()
        path = directory + "/v"
        var vsock = VsockOptions(guestCID: cid, path: path)
        vsock.rest = options.rest
        options.adjust(&vsock)
        self.options = vsock
        var silent = Logger(label: "test")
        silent.logLevel = .critical
        log = options.log ?? silent
        features = VirtioFeatures(rawValue: options.negotiatesMessages ? 1 << 32 | 3 : 1 << 32)
        device = try VsockDevice(loop: loop, options: vsock, logger: log)
        device.featuresNegotiated(features)
        try start()
        let perBuffer = options.receiveBuffer.count
        for _ in 0..<(options.receiveBufferCount ?? options.ringSize / perBuffer) {
            post(Chain(writable: options.receiveBuffer.map { memory.segment(byteCount: $0) }))
        }
        receiveRing.kick()
    }

    deinit {
        checkEnd()
        device.close()
        // SAFETY: paths are passed as C strings for the length of the calls.
        _ = unsafe rmdir(directory)
    }

    private static func makeDirectory() throws -> String {
        let folder = ProcessEnvironment.variable("TMPDIR") ?? "/tmp"
        let directory = folder + "/vsock-" + String(UInt64.random(in: .min ... .max), radix: 16)
        // SAFETY: the path is passed as a C string for the length of the call.
        let outcome = unsafe mkdir(directory, 0o700)
        try #require(outcome == 0)
        return directory
    }

    /// Starts both queues: at the rings' present places, or where others stood.
    func start(at bases: [UInt32]? = nil) throws {
        queues = []
        let rings = [receiveRing, transmitRing] + (hasEventQueue ? [eventRing] : [])
        for (index, ring) in rings.enumerated() {
            var configuration = ring.configuration
            if let bases { configuration.base = bases[index] }
            let queue = try Virtqueue(configuration, memory: deviceMemory, notifier: signals)
            queues.append(queue)
            device.startQueue(queue, at: index)
            device.driverNotified(queueAt: index)
        }
    }

    /// Stops both queues, as the front-end does when the machine pauses or resets.
    func stop() {
        for index in queues.indices { device.stopQueue(at: index) }
    }

    /// Stops both queues and starts them again where they stood, over the same memory.
    func restart() throws {
        let bases = bases
        stop()
        try start(at: bases)
    }

    /// Whether the device found a ring that makes no sense.
    var isBroken: Bool { queues.contains { $0.breakage != nil } }

    /// The driver resets the device and lays every ring out again.
    func startAnew() throws {
        stop()
        device.reset()
        streams = []
        forgetAccounts()
        for ring in [receiveRing, transmitRing, eventRing] { ring.reset(start: 0) }
        try start()
        for _ in 0..<100 { postBuffer([3776]) }
    }

    /// Kills the device, and has another one go on with the rings where it stood.
    ///
    /// The kernel closes the sockets of the killed one. Connections and accounts are forgotten.
    func replaceDevice() throws {
        let bases = bases
        queues = []
        device.close()
        streams = []
        forgetAccounts()
        device = try VsockDevice(loop: loop, options: options, logger: log)
        device.featuresNegotiated(features)
        try start(at: bases)
    }

    /// Where the queues stand, as GET_VRING_BASE tells.
    var bases: [UInt32] { queues.map { $0.base } }

    /// Forgets what passed so far: another guest begins.
    func forgetAccounts() {
        auditor = Auditor(guestCID: cid, siblings: siblings)
    }

    // MARK: Time

    /// Turns the loop until nothing happens any more.
    func settle() {
        var quiet = 0
        while quiet < 2 {
            let hadUsed = turn()
            quiet = hadUsed ? 0 : quiet + 1
        }
    }

    /// Turns the loop once and takes what the device gave; whether it gave anything.
    @discardableResult
    func turn() -> Bool {
        #expect(throws: Never.self) { try loop.turn(waitingAtMost: .zero) }
        let hadTransmitted = reapTransmitted()
        let hadReceived = reapReceived()
        return hadTransmitted || hadReceived
    }

    /// Lets time pass and turns the loop.
    func advance(by duration: Duration) {
        clock.advance(by: duration)
        settle()
    }

    // MARK: Sending

    /// How a packet lies in its chain.
    enum Layout {
        /// One segment.
        case whole
        /// The header, then the payload.
        case split
        /// Segments of these lengths, the last as long as it has to be.
        case cut([Int])
    }

    /// Queues a packet and notifies the device; false when the ring is full.
    @discardableResult
    func send(_ packet: Packet, layout: Layout = .split, indirect: Bool = false) -> Bool {
        let bytes = packet.header + packet.payload
        var cuts: [Int]
        switch layout {
        case .whole: cuts = []
        case .split: cuts = [44]
        case .cut(let lengths): cuts = lengths
        }
        var segments: [Segment] = []
        var rest = bytes[...]
        while let cut = cuts.first, cut < rest.count {
            segments.append(memory.segment(rest.prefix(cut)))
            rest = rest.dropFirst(cut)
            cuts.removeFirst()
        }
        segments.append(memory.segment(rest))
        return offer(
            Chain(readable: segments, placement: indirect ? .indirect : .direct), packet)
    }

    /// Queues a chain, whatever is in it, and notifies the device.
    @discardableResult
    func offer(_ chain: Chain, _ packet: Packet? = nil) -> Bool {
        guard transmitRing.add(chain, tag: 0) != nil else {
            memory.free(chain)
            return false
        }
        if let packet, packet.sourceCID == cid { auditor.guestSent(packet) }
        if transmitRing.publish() { device.driverNotified(queueAt: 1) }
        return true
    }

    /// Queues descriptors with whatever in them as one chain, and notifies the device; nothing when the
    /// ring has no room.
    func offerRaw(_ descriptors: [RawDescriptor]) {
        guard transmitRing.freeDescriptorCount >= descriptors.count else { return }
        _ = transmitRing.addRaw(descriptors)
        if transmitRing.publish() { device.driverNotified(queueAt: 1) }
    }

    /// Chains that the device has not given back.
    var chainsUnderWay: Int { transmitRing.inFlightCount }

    private func reapTransmitted() -> Bool {
        var hadAny = false
        while let used = reap(transmitRing) {
            #expect(used.writtenLength == 0, "nothing is written to what the device reads")
            // A segment outside of the memory was never allocated.
            if !used.chain.readable.contains(where: { $0.address >= 1 << 40 }) {
                memory.free(used.chain)
            }
            hadAny = true
        }
        return hadAny
    }

    private func reap(_ ring: any RingDriver) -> ReapedBuffer? {
        do {
            return try ring.reap()
        } catch {
            Issue.record("the device broke the ring: \(error)")
            return nil
        }
    }

    // MARK: Receiving

    private func post(_ chain: Chain) {
        _ = receiveRing.add(chain, tag: 0)
    }

    /// Posts one more receive buffer.
    func postBuffer(_ segments: [Int]) {
        postChain(Chain(writable: segments.map { memory.segment(byteCount: $0) }))
    }

    /// Posts one more chain to the receive ring, whatever it is.
    func postChain(_ chain: Chain) {
        post(chain)
        if receiveRing.publish() { device.driverNotified(queueAt: 0) }
    }

    private func reapReceived() -> Bool {
        var hadAny = false
        while let used = reap(receiveRing) {
            hadAny = true
            take(used)
            if used.writtenLength == 0 {
                // Of no use to the device, and so to nobody.
                memory.free(used.chain)
            } else if postsBuffers {
                post(used.chain)
            }
        }
        if hadAny && receiveRing.publish() { device.driverNotified(queueAt: 0) }
        return hadAny
    }

    private func take(_ used: ReapedBuffer) {
        if used.writtenLength == 0 { return }
        guard let packet = Packet(receiveRing.writtenBytes(of: used)) else {
            Issue.record("a packet has a header")
            return
        }
        if checksPackets {
            auditor.guestReceived(packet, room: Int(used.chain.writableLength) - 44)
        } else {
            #expect((1...7).contains(packet.operation))
            #expect(packet.destinationCID == cid)
            #expect(packet.claimedLength == UInt32(packet.payload.count))
        }
        if let stream = lastReceiver, stream.owns(packet) {
            stream.receive(packet)
            return
        }
        for stream in streams where stream.owns(packet) {
            lastReceiver = stream
            stream.receive(packet)
            return
        }
        received.append(packet)
    }

    /// Takes the packets of no stream that have come so far.
    func takeReceived() -> [Packet] {
        defer { received = [] }
        return received
    }

    // MARK: Connections

    /// A service on the host for connections of the guest.
    func service(
        at port: UInt32, kind: SocketKind = .stream, backlog: Int32 = 128
    ) throws -> HostService {
        try HostService(at: "\(path)_\(port)", kind: kind, backlog: backlog)
    }

    /// A client on the host, connected to the device.
    func client() throws -> HostEnd { try HostEnd(connectingTo: path) }

    /// A connection that the guest has made and the host has accepted.
    func connect(
        to service: HostService, port: UInt32, from guestPort: UInt32,
        allocation: UInt32 = 256 * 1024, type: UInt16 = 1
    ) throws -> (stream: GuestStream, host: HostEnd) {
        let stream = GuestStream(
            self, peerPort: port, guestPort: guestPort, allocation: allocation, type: type)
        stream.request()
        settle()
        #expect(stream.state == .established)
        let host = try #require(try service.accept())
        return (stream, host)
    }

    /// A connection that a client has made and the guest has accepted.
    func accept(
        at guestPort: UInt32, allocation: UInt32 = 256 * 1024
    ) throws -> (stream: GuestStream, host: HostEnd) {
        let client = try client()
        client.write("CONNECT \(guestPort)\n")
        settle()
        let request = try #require(takeReceived().first)
        #expect(request.operation == Packet.request)
        let stream = GuestStream(
            self, peerPort: request.sourcePort, guestPort: guestPort, allocation: allocation)
        stream.respond(to: request)
        settle()
        #expect(client.readText() == "OK \(request.sourcePort)\n")
        return (stream, client)
    }
}
