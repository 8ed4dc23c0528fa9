// SPDX-License-Identifier: Apache-2.0

public import LinuxIO
public import Logging
import SystemPackage
public import Virtio

/// A virtio socket device (virtio 1.3 §5.10): carries AF_VSOCK connections of one guest to Unix
/// sockets on the host, and from them.
///
/// - A client on the host connects to the device's path, writes `CONNECT <port>\n` and reads
///   `OK <host port>\n`.
/// - The guest connects to port N of the host (context identifier 2) and reaches the listener at
///   `<path>_N`.
/// - Messages (SEQPACKET) go the same ways: clients connect to `<path>_seqpacket`, and the listener
///   at `<path>_N` is of that kind.
/// - Port maps (`VsockOptions.listeners`, `services`) lead to other paths and need no line.
///
/// The device belongs to its event loop's thread. It works with two queues or three: some
/// front-ends keep the event queue to themselves.
public final class VsockDevice {
    private enum Queue: Int, CaseIterable {
        case receive
        case transmit
        case event
    }

    /// VIRTIO_VSOCK_F_STREAM.
    private static let stream = VirtioFeatures.bit(0)
    /// VIRTIO_VSOCK_F_SEQPACKET.
    private static let sequencedPacket = VirtioFeatures.bit(1)
    /// VIRTIO_VSOCK_F_NO_IMPLIED_STREAM.
    private static let noImpliedStream = VirtioFeatures.bit(2)

    let multiplexer: Multiplexer
    private let guest: ContextID

    /// Checks the options and listens for clients at the path.
    ///
    /// - Parameters:
    ///   - loop: serves the device; called on its thread.
    ///   - options: see there.
    ///   - logger: where the device's messages go.
    /// - Throws: what is wrong with the options, or why the path cannot be listened at.
    public init(loop: EventLoop, options: VsockOptions, logger: Logger) throws(VsockError) {
        try options.validate()
        guest = ContextID(rawValue: UInt32(truncatingIfNeeded: options.guestCID))
        let capture = try Self.capture(options.capture, loop: loop, logger: logger)
        multiplexer = Multiplexer(
            loop: loop, options: options, guest: guest, log: logger, capture: capture)
        do {
            try Self.listen(multiplexer, options, guest)
        } catch {
            multiplexer.close()
            throw error
        }
    }

    private static func capture(
        _ options: CaptureOptions?, loop: EventLoop, logger: Logger
    ) throws(VsockError) -> PacketCapture? {
        guard let options else { return nil }
        do {
            return try PacketCapture(options, loop: loop, log: logger)
        } catch .fileExists {
            throw .capture(
                path: options.path,
                reason: "what is there is no capture of packets; name another file, or remove it")
        } catch {
            throw .capture(path: options.path, reason: "\(error)")
        }
    }

    private static func listen(
        _ multiplexer: Multiplexer, _ options: VsockOptions, _ guest: ContextID
    ) throws(VsockError) {
        try multiplexer.listen(at: options.path, type: .stream, purpose: .clients)
        try multiplexer.listen(
            at: options.path + VsockOptions.messageSuffix, type: .sequencedPacket,
            purpose: .clients)
        for (port, path) in options.listeners {
            try multiplexer.listen(at: path, type: .stream, purpose: .port(port))
        }
        guard let siblings = options.siblings else { return }
        for group in siblings.groups {
            for type in [PacketType.stream, .sequencedPacket] {
                try multiplexer.listen(
                    at: siblings.path(of: guest, in: group, type: type), type: type,
                    purpose: .siblings)
            }
        }
    }

    /// Ends every connection and stops listening; the device is not used any more.
    ///
    /// The event loop keeps the device alive until this is called.
    public func close() {
        multiplexer.close()
    }

    /// What the device has done so far.
    public var statistics: VsockStatistics {
        var statistics = multiplexer.counters.value
        statistics.uncapturedPackets = multiplexer.capture?.missedPacketCount ?? 0
        return statistics
    }

    /// Whether no connections are made, from either side; those that there are go on.
    public var isDraining: Bool {
        get { multiplexer.isDraining }
        set { multiplexer.setDraining(newValue) }
    }

    /// Connections, open or closing.
    public var connectionCount: Int { multiplexer.connectionCount }

    /// Every connection, open or closing, with what has passed over it.
    public var connections: [VsockConnectionStatistics] { multiplexer.connectionStatistics }
}

extension VsockDevice: VirtioDevice {
    public var offeredFeatures: VirtioFeatures {
        [
            .version1, .indirectDescriptors, .eventIndex, .ringPacked, .inOrder,
            Self.stream, Self.sequencedPacket, Self.noImpliedStream,
        ]
    }

    public var queueCount: Int { Queue.allCases.count }

    /// The guest's context identifier, 64 bits little-endian (virtio 1.3 §5.10.4, guest_cid).
    public func readConfiguration() -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: UInt64(guest.rawValue) >> (8 * $0)) }
    }

    public func writeConfiguration(_ bytes: [UInt8], at offset: Int) -> Bool { false }

    public func featuresNegotiated(_ features: VirtioFeatures) {
        multiplexer.carriesMessages = features.contains(Self.sequencedPacket)
    }

    public func startQueue(_ queue: Virtqueue, at index: Int) {
        switch Queue(rawValue: index) {
        case .receive: multiplexer.startGuestbound(queue)
        case .transmit: multiplexer.startHostbound(queue)
        case .event: multiplexer.startEvents(queue)
        case nil: break
        }
    }

    public func driverNotified(queueAt index: Int) {
        switch Queue(rawValue: index) {
        case .receive: multiplexer.receiveBuffersPosted()
        case .transmit: multiplexer.packetsQueued()
        case .event: multiplexer.eventBuffersPosted()
        case nil: break
        }
    }

    /// No buffer is held from one turn of the loop to the next: there is nothing to wait for.
    public func stopQueue(at index: Int) {
        switch Queue(rawValue: index) {
        case .receive: multiplexer.guestboundQueue = nil
        case .transmit: multiplexer.stopHostbound()
        case .event: multiplexer.stopEvents()
        case nil: break
        }
    }

    public func expediteStop(ofQueueAt index: Int) {}

    public func reset() {
        multiplexer.forgetDriver()
    }
}
