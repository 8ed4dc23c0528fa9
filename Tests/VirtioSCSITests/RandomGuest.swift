// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Driver
import LinuxIO
import SCSI
import Stores
import Testing
import Virtio
import VirtioSCSI

/// A guest whose requests, functions and rings are whatever the seed says, beside a host that holds
/// requests back, fails them, and takes the disk away.
final class RandomGuest {
    /// What was sent and has not come back.
    private struct Sent {
        let chain: Chain
        /// Whether it is for the unit that functions are about.
        let isForUnit: Bool
        /// When it was sent.
        let moment: Int
    }

    private let guest: SCSIGuest
    private var random: SeededGenerator
    private var requests: [Int: [Int: Sent]] = [:]
    private var functions: [Int: (subtype: UInt8, isForUnit: Bool, moment: Int)] = [:]
    private var moment = 0
    private var isAttached = true
    /// Whether every request finds a place, as a function needs it to be.
    private let hasPlaces: Bool
    private let lun = LUN(0)

    private static let unit: [UInt8] = [1, 0, 0, 0, 0, 0, 0, 0]
    /// What a request may be answered with (virtio 1.3 §5.6.6.1).
    private static let responses: Set<UInt8> = [0, 1, 2, 3, 4, 6, 7, 9]
    private static let functionResponses: Set<UInt8> = [0, 3, 9, 10, 11, 12]
    private static let codes: [UInt8] = [
        0x28, 0x2A, 0x28, 0x2A, 0x88, 0x8A, 0x08, 0x0A, 0x00, 0x03, 0x12, 0x1A, 0x5A, 0x15, 0x25,
        0x9E, 0x2F, 0x35, 0x41, 0x42, 0x5E, 0x5F, 0x83, 0x84, 0x89, 0x93, 0xA0, 0xA3, 0x16, 0x17,
    ]

    init(_ format: RingFormat, seed: UInt64) throws {
        random = SeededGenerator(seed: seed)
        hasPlaces = seed % 5 != 4
        guest = try SCSIGuest(
            format, requestQueues: 4, ringSize: 64, commandLimit: hasPlaces ? 16384 : 64,
            pollLimit: seed % 4 == 3 ? .microseconds(20) : .zero, servers: Int(seed % 3))
    }

    private func one<Value>(of values: [Value]) -> Value { values[random.below(values.count)] }

    // MARK: Living

    /// Does so many things, and ends everything.
    func live(steps: Int) throws {
        for _ in 0..<steps {
            try act()
            try reap()
        }
        try end()
    }

    private func act() throws {
        switch random.below(40) {
        case 0..<15: offer()
        case 15: for _ in 0..<random.below(120) { offer(notifiesOneIn: 60) }
        case 16, 17: try manage()
        case 18..<28: try turn()
        case 28..<33: endRequest()
        case 33: guest.hold(random.oneIn(2))
        case 34: fail()
        case 35: if random.oneIn(4) { try restart(random.below(guest.rings.count)) }
        case 36: if random.oneIn(4) { configure() }
        case 37: if random.oneIn(4) { guest.device.isDraining.toggle() }
        case 38: if random.oneIn(4) { moveDisk() }
        default: if random.oneIn(8) { try reset() }
        }
    }

    /// A turn of one of the loops: in whatever order they go on.
    private func turn() throws {
        let loops = [guest.loop] + guest.servers.map(\.loop)
        try one(of: loops).turn(waitingAtMost: .zero)
    }

    private func endRequest() {
        let count = guest.pendingCount
        if count > 0 { guest.endRequest(at: random.below(count)) }
    }

    private func fail() {
        let outcome: BlockOutcome? = one(
            of: [nil, nil, .mediumError(goodByteCount: 0), .busy, .noSpace, .outOfRange])
        for store in [guest.store] + guest.twins {
            store.failure = outcome.map { outcome in { _ in outcome } }
        }
    }

    private func configure() {
        // sense_size and cdb_size.
        let sense = one(of: [0, 18, 96, 96, 252] as [UInt8])
        let cdb = one(of: [6, 16, 32, 32, 200] as [UInt8])
        _ = guest.device.writeConfiguration([sense, 0, 0, 0, cdb, 0, 0, 0], at: 20)
    }

    private func moveDisk() {
        guard let lun else { return }
        if isAttached {
            guest.bus.detach(target: 0, lun: lun)
            guest.device.forgetRoute(to: (0, lun), of: guest.disk, isGone: false) {}
        } else {
            guest.bus.attach(guest.disk, target: 0, lun: lun)
            guest.addRoutes(target: 0)
        }
        isAttached.toggle()
    }

    // MARK: Sending

    private func cdb() -> [UInt8] {
        let code = random.oneIn(10) ? UInt8(random.below(256)) : one(of: Self.codes)
        var cdb = [code] + [UInt8](repeating: 0, count: 31)
        let isLong = code >> 5 == 4
        cdb[isLong ? 9 : code >> 5 == 0 ? 3 : 5] = UInt8(random.below(32))
        cdb[isLong ? 13 : code >> 5 == 0 ? 4 : 8] = UInt8(random.below(5))
        if random.oneIn(8) { cdb[1] = UInt8(random.below(256)) }
        if random.oneIn(12) {
            for index in 1..<16 { cdb[index] = UInt8(random.below(256)) }
        }
        return cdb
    }

    /// Segments of so many bytes together.
    private func segments(_ bytes: [UInt8]) -> [Segment] {
        var cuts: [Segment] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = random.oneIn(2) ? rest.count : 1 + random.below(rest.count)
            cuts.append(guest.memory.segment(Array(rest.prefix(count))))
            rest = rest.dropFirst(count)
        }
        return cuts
    }

    private func chain(_ lun: [UInt8], tag: Int) -> Chain {
        let attribute = one(of: [0, 0, 0, 0, 0, 1, 2, 3, 77] as [UInt8])
        var header = SCSIGuest.header(
            cdb(), lun: lun, tag: UInt64(tag), attribute: attribute)
        if random.oneIn(30) { header = Array(header.prefix(random.below(header.count))) }
        let isWrite = random.oneIn(2)
        let data = one(of: [0, 18, 24, 512, 1024, 2048])
        let hasOut = isWrite || random.oneIn(40)
        let out = [UInt8](repeating: UInt8(tag & 0xFF), count: hasOut ? data : 0)
        var room = one(of: [108, 108, 108, 264])
        if random.oneIn(150) { room = random.below(12) }
        let readable = segments(header + out)
        var writable = segments([UInt8](repeating: 0xEE, count: room))
        if !isWrite { writable += segments([UInt8](repeating: 0xEE, count: data)) }
        // Memory that the front-end does not share.
        if random.oneIn(60) { writable.append(Segment(at: 1 << 40, byteCount: 512)) }
        let chain = Chain(readable: readable, writable: writable, placement: .indirect)
        return chain.segmentCount > 0 ? chain : Chain(readable: segments([0]))
    }

    private func offer(notifiesOneIn count: Int = 1) {
        let queue = 2 + random.below(guest.rings.count - 2)
        let others: [[UInt8]] = [[0, 0], [1, 9], [1, 0, 0, 5], [0xC1, 1]]
        let lun = random.oneIn(8) ? one(of: others) : [1]
        let address = (lun + [UInt8](repeating: 0, count: 8)).prefix(8)
        moment += 1
        let chain = chain(Array(address), tag: moment)
        guard guest.rings[queue].add(chain, tag: moment) != nil else { return free(chain) }
        requests[queue, default: [:]][moment] = Sent(
            chain: chain, isForUnit: Array(address) == Self.unit, moment: moment)
        _ = guest.rings[queue].publish()
        if random.oneIn(count) && !random.oneIn(8) { guest.notify(queue: queue) }
    }

    private func manage() throws {
        let subtype = one(of: [0, 1, 1, 3, 5, 5, 4, 6, 7, 2, 9] as [UInt8])
        let isForUnit = !random.oneIn(6)
        let request = SCSIGuest.taskManagement(
            subtype, tag: UInt8(max(0, moment - random.below(4)) & 0xFF),
            lun: isForUnit ? Self.unit : [1, 0, 0, 7, 0, 0, 0, 0])
        moment += 1
        let chain = Chain(
            readable: segments(request), writable: [guest.memory.segment(byteCount: 1)],
            placement: .indirect)
        guard guest.rings[0].add(chain, tag: moment) != nil else { return free(chain) }
        functions[moment] = (subtype, isForUnit, moment)
        _ = guest.rings[0].publish()
        guest.device.driverNotified(queueAt: 0)
        // Some are answered before the driver has said anything more.
        if random.oneIn(2) { for _ in 0..<8 { try guest.turn() } }
    }

    private func free(_ chain: Chain) {
        for segment in chain.readable + chain.writable where segment.address < 1 << 40 {
            guest.memory.free(segment.address)
        }
    }

    // MARK: Receiving

    private func reap() throws {
        // The functions first: what they have ended was there before them.
        var ended: [(subtype: UInt8, isForUnit: Bool, moment: Int)] = []
        for buffer in try guest.rings[0].reapAll() {
            let response = guest.memory.read(buffer.chain.writable)[0]
            #expect(buffer.writtenLength == 1 && Self.functionResponses.contains(response))
            if let function = functions.removeValue(forKey: buffer.tag), response == 0 {
                ended.append(function)
            }
            free(buffer.chain)
        }
        var broken: [Int] = []
        for queue in 2..<guest.rings.count {
            for buffer in try guest.rings[queue].reapAll() {
                if buffer.writtenLength == 0 { broken.append(queue) } else { check(buffer) }
                #expect(requests[queue]?.removeValue(forKey: buffer.tag) != nil)
                free(buffer.chain)
            }
        }
        for function in ended { check(function, except: broken) }
        for queue in broken { try startAnew(queue) }
    }

    private func check(_ buffer: ReapedBuffer) {
        let bytes = guest.memory.read(
            buffer.chain.writable.filter { $0.address < 1 << 40 }, count: 12)
        #expect(buffer.writtenLength >= 12)
        #expect(Self.responses.contains(bytes[11]))
    }

    /// ABORT TASK SET, CLEAR TASK SET and LOGICAL UNIT RESET leave nothing older on the unit.
    private func check(
        _ function: (subtype: UInt8, isForUnit: Bool, moment: Int), except broken: [Int]
    ) {
        guard hasPlaces, function.isForUnit, [1, 3, 5].contains(function.subtype) else { return }
        for (queue, sent) in requests where !broken.contains(queue) {
            let older = sent.values.filter { $0.isForUnit && $0.moment < function.moment }
            #expect(older.isEmpty, "queue \(queue), function \(function.subtype)")
        }
    }

    // MARK: Rings

    private func restart(_ queue: Int) throws {
        if queue == 1 { return }
        try guest.restart(queue, anew: false)
    }

    private func startAnew(_ queue: Int) throws {
        try guest.restart(queue, anew: true)
        for sent in requests[queue, default: [:]].values { free(sent.chain) }
        requests[queue] = [:]
    }

    /// The driver resets the device: every queue is stopped, and comes again.
    private func reset() throws {
        try settle()
        guest.device.reset()
        for queue in guest.rings.indices where queue != 1 { try restart(queue) }
    }

    private func settle() throws {
        guest.device.isDraining = false
        guest.hold(false)
        for store in [guest.store] + guest.twins { store.failure = nil }
        for queue in guest.rings.indices { guest.notify(queue: queue) }
        for _ in 0..<400 {
            for store in [guest.store] + guest.twins { store.endAll() }
            try guest.turn()
            try reap()
        }
    }

    private func end() throws {
        try settle()
        #expect(requests.values.flatMap(\.keys).isEmpty, "every request comes back")
        #expect(functions.isEmpty, "every function is answered")
        #expect(guest.device.underWayCount == 0)
        if !isAttached { moveDisk() }
        // REQUEST SENSE, over every queue.
        _ = guest.device.writeConfiguration([96, 0, 0, 0, 32, 0, 0, 0], at: 20)
        for queue in 2..<guest.rings.count {
            for _ in 0..<20 { _ = try guest.send([3, 0, 0, 0, 18, 0], in: [18], queue: queue) }
            #expect(try guest.send([3, 0, 0, 0, 18, 0], in: [18], queue: queue)?.status == 0)
        }
    }
}

/// With `VHOSTD_FUZZ_SECONDS` set, guests follow each other for so long, each with a seed of its own.
@Suite("A SCSI guest that does anything at all", .serialized)
struct RandomGuestTests {
    @Test(
        "gets every request back, and those that a function has ended before it",
        arguments: RingFormat.allCases, 0..<8 as Range<UInt64>)
    func anything(_ format: RingFormat, _ seed: UInt64) throws {
        try RandomGuest(format, seed: seed).live(steps: 600)
    }

    @Test("finds nothing more in the time that it is given")
    func longTime() throws {
        guard let text = ProcessEnvironment.variable("VHOSTD_FUZZ_SECONDS"),
            let seconds = Int(text)
        else { return try RandomGuest(.packed, seed: 8).live(steps: 600) }
        let end = ContinuousClock.now + .seconds(seconds)
        var seed = UInt64.random(in: 0..<1 << 40)
        repeat {
            // The last line tells which one it was.
            print("seed \(seed)")
            for format in RingFormat.allCases {
                try RandomGuest(format, seed: seed).live(steps: 600)
            }
            seed += 1
        } while ContinuousClock.now < end
    }
}
