// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Guests
import LinuxIO

/// A guest with the two queues of a vsock driver, on QEMU's side of a real socket: the rings lie in the first
/// region of its memory, packets in whichever it is told.
final class VsockGuest {
    /// Bytes of a receive buffer.
    private static let bufferByteCount = 3776
    /// Receive buffers that are posted at a time.
    private static let bufferCount = 32
    private static let guestCID: UInt64 = 42

    let memory: TestMemory
    let frontEnd: FrontEnd
    private let rings: [GuestRing]
    private let machine: QEMU
    /// Where packets lie from now on.
    var region = 1
    /// Chains that the device has, by the region that they lie in.
    private(set) var chainCounts: [Int]

    /// The connections, by the guest's port.
    private var connections: [UInt32: Connection] = [:]

    /// The guest's end of a connection to the host.
    struct Connection {
        var peerPort: UInt32
        var isEstablished = false
        /// The guest's buffer, and what it has read of it.
        var allocation: UInt32
        var received: [UInt8] = []
        var receivedCount: UInt32 = 0
        var sentCount: UInt32 = 0
        var peerAllocation: UInt32 = 0
        var peerForwarded: UInt32 = 0

        var credit: Int { max(0, Int(peerAllocation) - Int(sentCount &- peerForwarded)) }
    }

    init(socketPath: String, format: RingFormat, regionCount: Int) throws {
        memory = try TestMemory(
            (0..<UInt64(regionCount)).map {
                TestMemory.Region(
                    at: 0x10_0000 + ($0 << 26), byteCount: 8 << 20, fileOffset: 0x3000 * $0)
            })
        frontEnd = try FrontEnd(path: socketPath)
        machine = try QEMU(.ten, .vsock)
        chainCounts = Array(repeating: 0, count: regionCount)
        let memory = memory
        let kickValue = machine.kickValue
        rings = try (0..<2).map { index in
            try GuestRing(
                index, format.makeDriver(in: memory, RingOptions(size: 128)),
                kickValue: kickValue)
        }
        try machine.connect(frontEnd, ringCount: rings.count)
        try machine.start(frontEnd, memory, rings, ringCount: rings.count)
        postBuffers()
    }

    // MARK: Memory

    func addRegion(_ index: Int) throws {
        try frontEnd.require(.addMemoryRegion(memory, index))
    }

    func removeRegion(_ index: Int) throws {
        try frontEnd.require(.removeMemoryRegion(memory.regions[index]))
    }

    private func segment(byteCount: Int) -> Segment {
        Segment(
            at: memory.allocate(byteCount: byteCount, inRegion: region), byteCount: byteCount)
    }

    /// The region that a chain lies in.
    private func region(of chain: Chain) -> Int {
        let address = (chain.readable + chain.writable)[0].address
        return memory.regions.firstIndex { address >= $0.guestAddress && address < $0.endAddress }
            ?? 0
    }

    // MARK: Packets

    private func postBuffers() {
        while rings[0].driver.inFlightCount < Self.bufferCount {
            let chain = Chain(writable: [segment(byteCount: Self.bufferByteCount)])
            guard rings[0].driver.add(chain, tag: 0) != nil else { break }
            chainCounts[region] += 1
        }
        rings[0].driver.kick()
    }

    /// Sends a packet: the header of virtio 1.3 §5.10.6, then the payload in a segment of its own.
    private func send(_ operation: UInt16, from port: UInt32, _ payload: [UInt8] = []) {
        guard let connection = connections[port] else { return }
        let header =
            FrontEndMessage.bytes(Self.guestCID) + FrontEndMessage.bytes(UInt64(2))
            + FrontEndMessage.bytes(port) + FrontEndMessage.bytes(connection.peerPort)
            + FrontEndMessage.bytes(UInt32(payload.count)) + FrontEndMessage.bytes(UInt16(1))
            + FrontEndMessage.bytes(operation) + FrontEndMessage.bytes(UInt32(0))
            + FrontEndMessage.bytes(connection.allocation)
            + FrontEndMessage.bytes(connection.receivedCount)
        let segments = [header, payload].filter { !$0.isEmpty }.map { bytes in
            let segment = segment(byteCount: bytes.count)
            memory.write(bytes, at: segment.address)
            return segment
        }
        guard rings[1].driver.add(Chain(readable: segments), tag: 0) != nil else { return }
        chainCounts[region] += 1
        connections[port]?.sentCount &+= UInt32(payload.count)
        rings[1].driver.kick()
    }

    /// Takes back what the device is done with, and posts receive buffers for those that were used.
    func turn() throws {
        for buffer in try rings[1].driver.reapAll() { free(buffer) }
        for buffer in try rings[0].driver.reapAll() {
            take(rings[0].driver.writtenBytes(of: buffer))
            free(buffer)
        }
        postBuffers()
    }

    private func free(_ buffer: ReapedBuffer) {
        chainCounts[region(of: buffer.chain)] -= 1
        memory.free(buffer.chain)
    }

    private func take(_ bytes: [UInt8]) {
        guard bytes.count >= 44 else { return }
        let port: UInt32 = FrontEndMessage.integer(bytes[20..<24])
        let operation: UInt16 = FrontEndMessage.integer(bytes[30..<32])
        connections[port]?.peerAllocation = FrontEndMessage.integer(bytes[36..<40])
        connections[port]?.peerForwarded = FrontEndMessage.integer(bytes[40..<44])
        switch operation {
        case 2: connections[port]?.isEstablished = true
        case 3: connections[port] = nil
        case 5:
            connections[port]?.received += bytes[44...]
            connections[port]?.receivedCount &+= UInt32(bytes.count - 44)
            // Half of the smallest window that is used.
            if connections[port]?.received.count ?? 0 > 16_000 { send(6, from: port) }
        case 7: send(6, from: port)
        default: break
        }
    }

    // MARK: Connections

    /// Asks for a connection.
    func request(_ peerPort: UInt32, from port: UInt32, allocation: UInt32) {
        connections[port] = Connection(peerPort: peerPort, allocation: allocation)
        send(1, from: port)
    }

    func isEstablished(_ port: UInt32) -> Bool { connections[port]?.isEstablished ?? false }

    /// Grants the host another window.
    func grant(_ allocation: UInt32, at port: UInt32) {
        connections[port]?.allocation = allocation
        send(6, from: port)
    }

    /// Sends of these bytes as many as there is credit for, at most a packet; how many that were.
    func write(_ bytes: ArraySlice<UInt8>, at port: UInt32) -> Int {
        let count = min(bytes.count, connections[port]?.credit ?? 0, 16_384)
        guard count > 0, rings[1].driver.freeDescriptorCount >= 8 else { return 0 }
        send(5, from: port, Array(bytes.prefix(count)))
        return count
    }

    /// Takes what has come.
    func read(at port: UInt32) -> [UInt8] {
        guard let received = connections[port]?.received, !received.isEmpty else { return [] }
        connections[port]?.received = []
        send(6, from: port)
        return received
    }
}
