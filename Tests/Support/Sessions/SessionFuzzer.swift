// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Glibc
import Kernel
import LinuxIO
import Logging
import SystemPackage
import VhostUser
import Virtio

/// Plays a front-end and a guest that mean ill: each program is a list of steps, in bytes, that
/// may do anything in any order.
///
/// What must hold: replies look like replies, nothing traps, and when the front-end has gone and
/// the device is done, everything that it brought has gone, too.
public final class SessionFuzzer {
    private let clock = ManualClock()
    private let loop: EventLoop
    private let memory: TestMemory
    private let signals: [Signal]
    private let pipe: Pipe
    private let device: EchoDevice
    private let server: VhostUserServer
    /// Who serves the device's queues in its place, each on a loop of its own.
    private let queueServers: [EchoServer]
    /// Whether the first of them has no time at all.
    private var isServerBusy = false
    private let path: String
    /// Descriptors that were open when they were counted first.
    private var descriptorCount: Int?
    private var frontEnd: FrontEnd
    private var program = Program([])

    /// A server of its own, which all programs meet one after the other.
    ///
    /// - Parameters:
    ///   - name: of its socket.
    ///   - queueServerCount: who serves the queues, by letters; none: the device itself.
    /// - Throws: the errno of making the socket or the loops.
    public init(name: String, queueServerCount: Int = 0) throws {
        _ = signal(SIGPIPE, SIG_IGN)
        let folder = ProcessEnvironment.variable("TMPDIR") ?? "/tmp"
        path = folder + "/vhost-user-fuzz-\(UInt32.random(in: .min ... .max))-\(name).socket"
        loop = try EventLoop(clock: clock)
        memory = try TestMemory([
            TestMemory.Region(at: 0, byteCount: 1 << 16, frontEndAddress: 0x1_0000),
            TestMemory.Region(at: 1 << 20, byteCount: 1 << 16, frontEndAddress: 0x10_0000),
        ])
        signals = try (0..<4).map { _ in try Signal() }
        pipe = try Pipe()
        device = EchoDevice(
            features: [
                .version1, .ringPacked, .indirectDescriptors, .eventIndex, .inOrder, .bit(1),
            ], queueCount: 3)
        let (clock, device) = (clock, device)
        queueServers = try (0..<queueServerCount).map { _ in
            EchoServer(loop: try EventLoop(clock: clock), device: device)
        }
        device.servers = queueServers.map(\.address)
        guard let address = UnixAddress(path: path) else { throw Errno.fileNameTooLong }
        server = try VhostUserServer(
            loop: loop, device: device, listener: try UnixListener(address),
            options: VhostUserOptions(name: "fuzz", indispensable: .bit(3)),
            logger: Logger(label: "fuzz", factory: { _ in SwiftLogNoOpLogHandler() }))
        frontEnd = try FrontEnd(path: path)
        frontEnd.disconnect()
    }

    /// Runs one program.
    ///
    /// - Parameters:
    ///   - bytes: the steps.
    ///   - checkingDescriptors: whether the descriptors of the process are counted, which nobody
    ///     else may open or close then.
    /// - Returns: what went wrong; nil if nothing did.
    public func run(_ bytes: [UInt8], checkingDescriptors: Bool = false) -> String? {
        program = Program(bytes)
        memory.fill(0, at: 0, count: 1 << 16)
        do {
            try connect()
            while !program.isOver {
                if let failure = try step() { return failure }
            }
            return try end(checkingDescriptors)
        } catch {
            return "\(error)"
        }
    }

    private func connect() throws {
        frontEnd.disconnect()
        try turn()
        frontEnd = try FrontEnd(path: path)
        frontEnd.pump = { [unowned self] in try turnOnce() }
        try turn()
    }

    private func turn() throws {
        for _ in 0..<(queueServers.isEmpty ? 3 : 6) { try turnOnce() }
    }

    private func turnOnce() throws {
        try loop.turn(waitingAtMost: .zero)
        for (number, server) in queueServers.enumerated() where number > 0 || !isServerBusy {
            try server.loop.turn(waitingAtMost: .zero)
        }
    }

    private func end(_ checkingDescriptors: Bool) throws -> String? {
        device.holds = false
        device.obeysExpedite = true
        device.isWritable = false
        isServerBusy = false
        frontEnd.disconnect()
        try turn()
        device.complete()
        try turn()
        _ = device.takeEvents()
        if server.isServing { return "the session outlives its front-end" }
        if server.orphanCount != 0 { return "\(server.orphanCount) queues are left" }
        if device.heldCount != 0 { return "\(device.heldCount) buffers are left" }
        if device.features != nil { return "the device was not reset" }
        return checkingDescriptors ? countDescriptors() : nil
    }

    private func countDescriptors() -> String? {
        let count = openDescriptorCount()
        guard let descriptorCount else {
            descriptorCount = count
            return nil
        }
        return count > descriptorCount
            ? "\(count) descriptors are open, not \(descriptorCount)" : nil
    }

    // MARK: Steps

    private func step() throws -> String? {
        let kind = program.next()
        do {
            switch kind % 16 {
            case 0...6: try frontEnd.send(message(), flags: program.next() % 2 == 0 ? 0x1 : 0x9)
            case 7: try frontEnd.send(anyMessage(), flags: program.next() % 4 == 0 ? 0x1 : 0x9)
            case 8: try frontEnd.sendRaw(program.take(Int(program.next() % 24) + 1))
            case 9: try start()
            case 10: signals[Int(program.next() % 4)].raise()
            case 11: writeToRing()
            case 12: clock.advance(by: .milliseconds(Int(program.next()) * 50))
            case 13: leadDevice()
            case 14: return try readReplies()
            default: if program.next() % 8 == 0 { try connect() }
            }
            try turnOnce()
        } catch FrontEndError.closed {
            try connect()
        }
        return nil
    }

    /// The shortest way to a running ring.
    private func start() throws {
        let features: UInt64 = 1 << 30 | 1 << 32 | (program.next() % 2 == 0 ? 0 : 1 << 34)
        let ring = Int(program.next() % 3)
        for message in [
            FrontEndMessage.setProtocolFeatures(0x8000 | 1 << 3 | 1 << 1), .setFeatures(features),
            .setMemoryTable(memory), .setRingSize(ring, 8), addresses(ring),
            .setRingCall(ring, signals[3].rawDescriptor),
            .setRingKick(ring, signals[ring].rawDescriptor), .setRingEnable(ring, true),
        ] {
            try frontEnd.send(message)
        }
        signals[ring].raise()
    }

    private func addresses(_ ring: Int) -> FrontEndMessage {
        let base: UInt64 = 0x1_0000 + UInt64(ring) * 0x1000
        return .setRingAddresses(
            ring, descriptors: base, used: base + 0x200, available: base + 0x100)
    }

    /// A message whose fields are plausible.
    private func message() -> FrontEndMessage {
        let ring = Int(program.next() % 4)
        let signal = program.next() % 5 == 0 ? nil : signals[ring].rawDescriptor
        switch program.next() % 26 {
        case 0: return .setFeatures(program.integer(byteCount: 5) | 1 << 30)
        case 1: return .setProtocolFeatures(program.integer(byteCount: 2) & 0xa22b)
        case 2: return .setMemoryTable(memory)
        case 3: return .setRingSize(ring, 1 << UInt32(program.next() % 18))
        case 4: return .setRingSize(ring, UInt32(program.next()))
        case 5: return .setRingBase(ring, UInt32(truncatingIfNeeded: program.integer(byteCount: 4)))
        case 6: return addresses(ring)
        case 7:
            let base = program.integer(byteCount: 3)
            return .setRingAddresses(
                ring, flags: UInt32(program.next() % 2), descriptors: base,
                used: base &+ program.integer(byteCount: 2),
                available: base &+ program.integer(byteCount: 2), log: .max)
        case 8, 9: return .setRingKick(ring, signal)
        case 10: return .setRingKick(ring, pipe.readingEnd.rawValue)
        case 11: return .setRingCall(ring, signal)
        case 12: return .setRingError(ring, signal)
        case 13, 14: return .setRingEnable(ring, program.next() % 2 == 0)
        case 15, 16: return .getRingBase(ring)
        case 17: return .resetDevice
        case 18: return .resetOwner
        case 19: return .addMemoryRegion(memory, ring % 2)
        case 20: return .removeMemoryRegion(memory.regions[ring % 2])
        case 21: return .setBackEndChannel(signal ?? pipe.writingEnd.rawValue)
        case 22, 23:
            // The pages of the regions begin with bit 0 and bit 256.
            return .setLogBase(
                byteCount: program.integer(byteCount: 1), offset: program.integer(byteCount: 1),
                descriptor: memory.rawDescriptor(ofRegion: ring % 2))
        case 24:
            return .getConfiguration(
                offset: UInt32(program.next()), count: UInt32(program.next()))
        default:
            return .setConfiguration(
                offset: UInt32(program.next() % 16), program.take(Int(program.next() % 9)))
        }
    }

    /// A message with whatever in it.
    private func anyMessage() -> FrontEndMessage {
        let request = UInt32(program.next() % 64)
        let size = [0, 8, 12, 20, 32, 40, 41, 72][Int(program.next() % 8)]
        let count = Int(program.next() % 4)
        return FrontEndMessage(
            request, payload: program.take(size),
            descriptors: signals.prefix(count).map(\.rawDescriptor))
    }

    /// Sixteen bytes somewhere in a ring.
    private func writeToRing() {
        let ring = UInt64(program.next() % 3) * 0x1000
        let place = UInt64(program.next()) * 8 % 0x300
        memory.write(program.take(16), at: ring + place)
    }

    private func leadDevice() {
        switch program.next() % (queueServers.isEmpty ? 6 : 7) {
        case 6: isServerBusy.toggle()
        case 0: device.holds.toggle()
        case 1: device.obeysExpedite.toggle()
        case 2: device.complete()
        case 3: server.configurationChanged()
        case 4: device.isWritable.toggle()
        default: if device.heldCount > 0 { device.completeNewest(1) }
        }
    }

    private func readReplies() throws -> String? {
        while let reply = try frontEnd.readReply(within: .zero) {
            guard reply.flags == 5, reply.payload.count <= 268 else {
                return "a reply to \(reply.request) with flags \(reply.flags)"
            }
        }
        return nil
    }
}

/// The bytes of a program, one after the other; zeroes when they are over.
private struct Program {
    private var bytes: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { self.bytes = bytes[...] }

    var isOver: Bool { bytes.isEmpty }

    mutating func next() -> UInt8 { bytes.popFirst() ?? 0 }

    mutating func take(_ count: Int) -> [UInt8] { (0..<count).map { _ in next() } }

    mutating func integer(byteCount: Int) -> UInt64 { FrontEndMessage.integer(take(byteCount)) }
}
