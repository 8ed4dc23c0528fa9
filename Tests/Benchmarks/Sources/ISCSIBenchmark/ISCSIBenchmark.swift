// SPDX-License-Identifier: Apache-2.0

import ISCSIBackstore
import LinuxIO
import Logging
import SCSI

/// Reads at random from one logical unit at an iSCSI target, so many at once, for so long.
///
///     ISCSIBenchmark URL BYTES DEPTH SECONDS [one-buffer]
///
/// Every read has a buffer of its own in pieces of a page, as a guest's have, unless all are to go to
/// one buffer in one piece: that is what iscsi-perf has, and it stays in the processor's cache.
/// Prints how many reads were done.
@main
enum ISCSIBenchmark {
    static func main() throws {
        let arguments = CommandLine.arguments
        guard arguments.count >= 5, let byteCount = Int(arguments[2]),
            let depth = Int(arguments[3]), let seconds = Int(arguments[4])
        else { return print("usage: ISCSIBenchmark URL BYTES DEPTH SECONDS [one-buffer]") }
        let load = try Load(
            url: arguments[1], byteCount: byteCount, depth: depth,
            isBufferShared: arguments.last == "one-buffer")
        print("\(try load.run(for: .seconds(seconds))) reads")
    }
}

/// Keeps reads under way, as the virtio device does: through the bus, ended ones taken at the end
/// of a turn.
final class Load: DeferredWork {
    var isWorkDeferred: Bool {
        get { state.value.isWorkDeferred }
        set { state.value.isWorkDeferred = newValue }
    }
    private let loop: EventLoop
    private let bus: SCSIBus
    private let pool: WorkerPool
    private let unit: ISCSILogicalUnit
    private let byteCount: Int
    private let blockCount: UInt64
    private let commands: GrowingSlab<Command>
    private let lun: LUN
    private let state = Cell(State())

    private struct State {
        var isWorkDeferred = false
        var buffers: [IOVectorArray.Box] = []
        /// The buffer of each command of the table.
        var buffersByCommand: [Int] = []
        var endedCount = 0
        var generator = PlainGenerator()
    }

    init(url: String, byteCount: Int, depth: Int, isBufferShared: Bool) throws {
        loop = try EventLoop()
        pool = try WorkerPool(name: "worker", threadCount: 1)
        bus = SCSIBus(initiator: InitiatorPort(name: "benchmark"), loop: loop)
        commands = bus.commands.commands
        guard let lun = LUN(0) else { preconditionFailure("there is a LUN 0") }
        self.lun = lun
        let configuration = ISCSISessionConfiguration(
            url: try ISCSIURL(url), initiatorName: ISCSIInitiatorName.ofThisHost,
            sessionIdentifier: 1)
        let session = ISCSISession(
            configuration, loop: loop, pool: pool, log: Logger(label: "benchmark"))
        unit = ISCSILogicalUnit(session: session, bus: bus) { [weak bus] unit in
            if let lun = LUN(0) { bus?.attach(unit, target: 0, lun: lun) }
        }
        self.byteCount = byteCount
        session.start()
        try ISCSILogicalUnit.waitUntilReady([unit], within: .seconds(10))
        blockCount = session.unit?.blockCount ?? 0
        bus.commands.completionWork = self
        let shared = IOVectorArray.Box(byteCount: byteCount, pieceByteCount: byteCount)
        for _ in 0..<depth {
            let own =
                isBufferShared ? nil : IOVectorArray.Box(byteCount: byteCount, pieceByteCount: 4096)
            state.value.buffers.append(own ?? shared)
        }
        for index in 0..<depth { begin(index) }
    }

    /// Reads for so long.
    ///
    /// - Returns: how many reads have ended.
    func run(for duration: Duration) throws -> Int {
        loop.setTimer(after: duration, handler: self)
        try loop.run()
        return state.value.endedCount
    }

    private func begin(_ buffer: Int) {
        guard let index = bus.commands.reserve() else { return }
        let blocks = UInt64(byteCount / 512)
        let block =
            UInt64.random(in: 0..<blockCount / blocks, using: &state.value.generator) * blocks
        // READ(16).
        let cdb = (
            (0x8800_0000_0000_0000 | block >> 16).bigEndian, (block << 48 | blocks << 16).bigEndian,
            UInt64(0), UInt64(0)
        )
        commands[index].address = LUNAddress(target: 0, lun: lun)
        commands[index].request.attribute = .simple
        commands[index].request.cdb = CDB(words: cdb)
        commands[index].request.cdbByteCount = 32
        commands[index].request.dataOut = nil
        commands[index].request.dataOutByteCount = 0
        commands[index].request.dataIn = state.value.buffers[buffer].pieces
        commands[index].request.dataInByteCount = byteCount
        while state.value.buffersByCommand.count <= index { state.value.buffersByCommand.append(0) }
        state.value.buffersByCommand[index] = buffer
        bus.execute(index)
    }

    func performDeferredWork() {
        while let index = bus.commands.popEnded() {
            state.value.endedCount += 1
            let buffer = state.value.buffersByCommand[index]
            bus.commands.release(index)
            begin(buffer)
        }
    }
}

extension Load: TimerHandler {
    func timerFired(tag: Int) {
        loop.stop()
    }
}

/// Numbers that are random enough to choose blocks by, without a system call for each, as the C
/// programs beside us have them.
struct PlainGenerator: RandomNumberGenerator {
    private var state: UInt64 = 88_172_645_463_325_252

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
}

extension IOVectorArray {
    /// A buffer, in pieces that make up the whole.
    final class Box {
        private let memory: UnsafeMutableRawPointer
        private var vectors = IOVectorArray(capacity: 64)

        init(byteCount: Int, pieceByteCount: Int) {
            memory = .allocate(byteCount: byteCount, alignment: 4096)
            for offset in stride(from: 0, to: byteCount, by: pieceByteCount) {
                vectors.append(
                    memory + offset, byteCount: min(pieceByteCount, byteCount - offset))
            }
        }

        deinit { memory.deallocate() }

        var pieces: IOVectorSlice { vectors.all }
    }
}
