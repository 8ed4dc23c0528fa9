// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SCSI
import Synchronization
import Targets
import Testing

@testable import ISCSIBackstore

/// A bus with one unit at an iSCSI target, and the transport before it.
final class UnitContext: SCSIBusObserver {
    /// Where the unit is in the guest: target 0, LUN 3.
    static let address = LUNAddress(rawValue: 0x0300_0001)
    private static let lun = LUN(3)

    let clock = ShiftedClock()
    let lines = LogLines()
    let loop: EventLoop
    let pool: WorkerPool
    let bus: SCSIBus
    private(set) var unit: ISCSILogicalUnit
    private(set) var attachedCount = 0
    private(set) var changes: [AdditionalSense] = []

    init(_ url: String, isReadOnly: Bool = false) throws {
        loop = try EventLoop(clock: clock)
        pool = try WorkerPool(name: "test", threadCount: 1)
        bus = SCSIBus(initiator: InitiatorPort(name: "test"), loop: nil)
        let configuration = ISCSISessionConfiguration(
            url: try ISCSIURL(url), initiatorName: "iqn.2026-01.com.example:initiator",
            sessionIdentifier: 1)
        let lines = lines
        let session = ISCSISession(
            configuration, loop: loop, pool: pool,
            log: Logger(label: "test") { _ in LineHandler(lines: lines) })
        unit = ISCSILogicalUnit(session: session, bus: bus, isReadOnly: isReadOnly) {
            [weak bus] unit in
            if let lun = Self.lun { bus?.attach(unit, target: 0, lun: lun) }
        }
        bus.observer = self
        session.start()
    }

    deinit {
        unit.close()
        pool.stopAndJoin()
    }

    func unitAttached(target: UInt8, lun: LUN) { attachedCount += 1 }
    func unitDetached(target: UInt8, lun: LUN) {}
    func unitChanged(target: UInt8, lun: LUN, _ sense: AdditionalSense) { changes.append(sense) }

    @discardableResult
    func turn(until condition: () -> Bool) throws -> Bool {
        let system = SystemClock()
        let end = system.now.advanced(byNanoseconds: 60_000_000_000)
        while !condition() {
            if system.now > end { return false }
            try loop.turn(waitingAtMost: .milliseconds(10))
        }
        return true
    }

    /// Waits for the unit, and takes the unit attention off that a new one begins with.
    func bringUp() throws {
        try turn { attachedCount == 1 }
        _ = try run([0, 0, 0, 0, 0, 0])
    }

    struct Result: Equatable {
        var response: ServiceResponse
        var status: Status
        var sense: [UInt8]
        var residual: Int
        var isOverrun: Bool
        var moved: Int
    }

    /// Executes a command and waits for its end.
    func run(_ cdb: [UInt8], out: TestBuffer? = nil, into: TestBuffer? = nil) throws -> Result? {
        guard let index = begin(cdb, out: out, into: into) else { return nil }
        var result: Result?
        try turn {
            while let ended = bus.commands.popEnded() {
                if ended == index { result = self.result(ended) }
                bus.commands.release(ended)
            }
            return result != nil
        }
        return result
    }

    func begin(
        _ cdb: [UInt8], out: TestBuffer? = nil, into: TestBuffer? = nil, tag: UInt64 = 1
    ) -> Int? {
        guard let index = bus.commands.reserve() else { return nil }
        bus.commands.commands[index].address = UnitContext.address
        bus.commands.commands[index].tag = tag
        bus.commands.commands[index].request.attribute = .simple
        bus.commands.commands[index].request.cdb = CDB(cdb)
        bus.commands.commands[index].request.cdbByteCount = 32
        bus.commands.commands[index].request.dataOut = out?.pieces
        bus.commands.commands[index].request.dataOutByteCount = out?.bytes.count ?? 0
        bus.commands.commands[index].request.dataIn = into?.pieces
        bus.commands.commands[index].request.dataInByteCount = into?.bytes.count ?? 0
        bus.execute(index)
        return index
    }

    func result(_ index: Int) -> Result {
        Result(
            response: bus.commands.commands[index].response,
            status: bus.commands.commands[index].status,
            sense: bus.commands.commands[index].status == .checkCondition
                ? bus.commands.commands[index].sense : [],
            residual: bus.commands.commands[index].residualByteCount,
            isOverrun: bus.commands.commands[index].isOverrun,
            moved: bus.commands.commands[index].movedByteCount)
    }
}

@Suite("A logical unit at an iSCSI target", .serialized)
struct LogicalUnitTests {
    private static let good = UnitContext.Result(
        response: .complete, status: .good, sense: [], residual: 0, isOverrun: false, moved: 0)

    @Test("is attached once it has been found, and not before")
    func attachedWhenFound() throws {
        let target = try ScriptedTarget(
            command: { _ in .good }, adjust: { $0.loginStatus = 0x0301 })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.turn { context.unit.session.lastError != nil }
        #expect(context.attachedCount == 0)
        #expect(context.bus.places.isEmpty)
        #expect(try context.run([0, 0, 0, 0, 0, 0])?.response == .badTarget)
        target.change { $0.loginStatus = 0 }
        #expect(try context.turn { context.attachedCount == 1 })
        #expect(context.bus.places.map(\.target) == [0])
    }

    @Test("passes data through, in the guest's own pieces")
    func data() throws {
        let target = try TgtTarget()
        let context = try UnitContext(target.url())
        try context.bringUp()
        let pattern = TestBuffer.pattern(block: 9, count: 64)
        let out = TestBuffer(pattern, pieceByteCount: 4096)
        let back = TestBuffer(byteCount: pattern.count, pieceByteCount: 8192)
        // WRITE(10) and READ(10) of 64 blocks from block 9.
        var expected = Self.good
        expected.moved = pattern.count
        #expect(try context.run([0x2A, 0, 0, 0, 0, 9, 0, 0, 64, 0], out: out) == expected)
        #expect(try context.run([0x28, 0, 0, 0, 0, 9, 0, 0, 64, 0], into: back) == expected)
        #expect(back.bytes == pattern)
    }

    @Test("tells exact residuals both ways")
    func residuals() throws {
        let target = try TgtTarget()
        let context = try UnitContext(target.url())
        try context.bringUp()
        let small = TestBuffer(byteCount: 512)
        let over = try context.run([0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0], into: small)
        #expect(over?.isOverrun == true)
        #expect(over?.residual == 512)
        #expect(over?.moved == 512)
        let large = TestBuffer(byteCount: 1536)
        let under = try context.run([0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0], into: large)
        #expect(under?.isOverrun == false)
        #expect(under?.residual == 512)
        #expect(under?.moved == 1024)
    }

    @Test("passes sense data on unchanged")
    func sense() throws {
        let sense: [UInt8] = [
            0xF0, 0x00, 0x03, 0x00, 0x00, 0x12, 0x34, 0x0A, 0, 0, 0, 0, 0x11, 0x04, 0x07, 0x80, 1,
            2,
        ]
        let target = try ScriptedTarget(command: { command in
            command.cdb[0] == 0x28 ? .status(0x02, sense: sense) : .good
        })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.bringUp()
        let buffer = TestBuffer(byteCount: 512)
        let result = try context.run([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], into: buffer)
        #expect(result?.status == .checkCondition)
        #expect(result?.sense == sense)
    }

    @Test("never says CHECK CONDITION without a reason")
    func emptySense() throws {
        let target = try ScriptedTarget(command: { command in
            command.cdb[0] == 0x28 ? .status(0x02, sense: [0]) : .good
        })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.bringUp()
        let result = try context.run([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0])
        // ABORTED COMMAND.
        #expect(result?.sense[2] == 0x0B)
    }

    @Test("refuses CDBs that are too long for the protocol", arguments: [0x7E, 0x7F] as [UInt8])
    func longCDB(operation: UInt8) throws {
        let target = try ScriptedTarget(command: { _ in .good })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.bringUp()
        let count = target.commands.count
        let result = try context.run([operation] + [UInt8](repeating: 1, count: 31))
        // ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE.
        #expect(result?.sense[2] == 0x05)
        #expect(result?.sense[12] == 0x20)
        #expect(target.commands.count == count)
    }

    @Test("answers REPORT LUNS for the guest's own numbering")
    func reportLUNs() throws {
        let target = try ScriptedTarget(command: { _ in .good })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.bringUp()
        let buffer = TestBuffer(byteCount: 16)
        let result = try context.run(
            [0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], into: buffer)
        #expect(result?.status == .good)
        #expect(buffer.bytes == [0, 0, 0, 8, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0])
    }

    @Test("lets nothing but reading through where only reading is allowed")
    func readOnly() throws {
        let target = try TgtTarget()
        let context = try UnitContext(target.url(), isReadOnly: true)
        try context.bringUp()
        let block = TestBuffer(byteCount: 512)
        // WRITE(10), WRITE SAME(10), UNMAP, FORMAT UNIT, and an operation code that nobody knows.
        for operation: UInt8 in [0x2A, 0x41, 0x42, 0x04, 0xC1] {
            let result = try context.run([operation, 0, 0, 0, 0, 0, 0, 0, 1, 0], out: block)
            // DATA PROTECT, WRITE PROTECTED.
            #expect(result?.sense[2] == 0x07, "\(operation)")
            #expect(result?.sense[12] == 0x27)
        }
        #expect(try context.run([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], into: block)?.status == .good)
        let mode = TestBuffer(byteCount: 4)
        _ = try context.run([0x1A, 0, 0x3F, 0, 4, 0], into: mode)
        #expect(mode.bytes[2] & 0x80 == 0x80)
    }

    @Test("tells the guest in two ways that the capacity has changed")
    func capacityChanged() throws {
        let isDue = Atomic(false)
        let target = try ScriptedTarget(command: { command in
            command.cdb[0] == 0x28 && isDue.load(ordering: .relaxed)
                ? .check(0x6, 0x2A, 0x09) : .good
        })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.bringUp()
        isDue.store(true, ordering: .relaxed)
        let result = try context.run([0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        #expect(result?.sense[2] == 0x06)
        #expect(context.changes == [AdditionalSense(0x2A, 0x09)])
    }

    @Test("hands a unit attention on that came between commands")
    func keptAttention() throws {
        let isDue = Atomic(false)
        let target = try ScriptedTarget(command: { command in
            command.cdb[0] == 0 && isDue.exchange(false, ordering: .relaxed)
                ? .check(0x6, 0x3F, 0x0E) : .good
        })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.bringUp()
        isDue.store(true, ordering: .relaxed)
        // An idle unit is asked every ten seconds.
        context.clock.advance(by: .seconds(5))
        _ = try context.loop.turn(waitingAtMost: .zero)
        try context.turn { context.unit.session.connection?.isPingOutstanding == false }
        context.clock.advance(by: .seconds(5))
        #expect(try context.turn { context.attachedCount == 2 }, "a RESCAN event")
        let result = try context.run([0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        #expect(result?.status == .checkCondition)
        #expect(result?.sense[12] == 0x3F)
        #expect(try context.run([0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0]) == Self.good)
    }

    @Test("says that the nexus was lost for what must not be done twice")
    func nexusLost() throws {
        let target = try ScriptedTarget(command: { $0.cdb[0] == 0x5F ? .hangUp : .good })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.bringUp()
        let list = TestBuffer(byteCount: 24)
        let result = try context.run([0x5F, 0, 0, 0, 0, 0, 0, 0, 24, 0], out: list)
        // UNIT ATTENTION, I_T NEXUS LOSS OCCURRED.
        #expect(result?.sense[2] == 0x06)
        #expect(result.map { Array($0.sense[12...13]) } == [0x29, 0x07])
        #expect(target.commands.filter { $0.cdb[0] == 0x5F }.count == 1)
    }

    @Test("fails commands by the transport after the replacement timeout")
    func transportFailure() throws {
        let target = try ScriptedTarget(command: { _ in .good })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.bringUp()
        target.change { $0.loginStatus = 0x0301 }
        target.hangUp()
        try context.turn { context.unit.session.phase != .up }
        context.clock.advance(by: .seconds(121))
        #expect(
            try context.run([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0])?.response == .transportFailure)
    }

    @Test("ends aborted commands, and then the task management function")
    func abort() throws {
        let target = try ScriptedTarget(command: { $0.cdb[0] == 0x28 ? nil : .good })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.bringUp()
        let block = TestBuffer(byteCount: 512)
        _ = context.begin([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], into: block, tag: 77)
        try context.turn { target.commands.contains { $0.cdb[0] == 0x28 } }
        context.bus.manage(.abortTask, address: UnitContext.address, tag: 77, token: 5)
        #expect(context.bus.commands.takeEndedManagements().isEmpty)
        var ended: [ServiceResponse] = []
        #expect(
            try context.turn {
                while let index = context.bus.commands.popEnded() {
                    ended.append(context.bus.commands.commands[index].response)
                    context.bus.commands.release(index)
                }
                return !ended.isEmpty
            })
        #expect(ended == [.aborted])
        #expect(context.bus.commands.takeEndedManagements().map(\.token) == [5])
        #expect(target.functions == [1])
    }

    @Test("lets go of commands at once that a stopped device waits for", arguments: [true, false])
    func abandons(isAtTarget: Bool) throws {
        let target = try ScriptedTarget(command: { $0.cdb[0] == 0x28 ? nil : .good })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.bringUp()
        let block = TestBuffer(byteCount: 512)
        if !isAtTarget {
            target.change { $0.loginStatus = 0x0301 }
            target.hangUp()
            try context.turn { context.unit.session.phase != .up }
        }
        _ = context.begin([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], into: block)
        if isAtTarget { try context.turn { target.commands.contains { $0.cdb[0] == 0x28 } } }
        #expect(context.bus.commands.popEnded() == nil)
        context.bus.commands.abandonWaiting { _ in true }
        let ended = try #require(context.bus.commands.popEnded())
        #expect(context.bus.commands.commands[ended].response == .reset)
        context.bus.commands.release(ended)
    }

    @Test("resets the unit at the target for a reset, and not for a driver that starts anew")
    func resets() throws {
        let target = try ScriptedTarget(command: { _ in .good })
        defer { target.stop() }
        let context = try UnitContext(target.url)
        try context.bringUp()
        _ = try context.run([0, 0, 0, 0, 0, 0])
        context.bus.initiatorReset()
        #expect(try context.turn { target.identifiers.count == 2 })
        #expect(target.functions.isEmpty)
        try context.turn { context.unit.session.phase == .up }
        // The unit attention of the new start, and a command that passes.
        for _ in 0..<2 { _ = try context.run([0, 0, 0, 0, 0, 0]) }
        context.bus.manage(.logicalUnitReset, address: UnitContext.address, tag: 0, token: 6)
        #expect(try context.turn { target.functions == [5] })
    }
}
