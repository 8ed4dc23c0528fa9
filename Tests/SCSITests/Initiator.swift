// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO
import SCSI
import Stores
import Testing

/// An initiator in front of a bus with a disk in memory, who sends CDBs and looks at what comes back.
final class Initiator {
    let bus: SCSIBus
    let store: MemoryStore
    let disk: Disk
    private let keeper: (any TestKeeper)?
    private var buffers: [Int: (out: AlignedBuffer?, in: AlignedBuffer?)] = [:]
    private(set) var answers: [Int: Answer] = [:]
    private(set) var order: [Int] = []

    /// How a command came back.
    struct Answer {
        var response: ServiceResponse
        var status: Status
        var sense: [UInt8]
        /// What was moved to the initiator.
        var data: [UInt8]
        var residual: Int
        var isOverrun: Bool

        /// Sense key, code and qualifier of fixed format sense data.
        var fixedSense: [UInt8] {
            sense.count < 14 ? [] : [sense[2] & 0x0F, sense[12], sense[13]]
        }
    }

    /// One disk at target 0, LUN 0; its power-on unit attention is read already.
    init(
        blockSize: Int = 512, blockCount: UInt64 = 2048, isThin: Bool = true,
        isReadOnly: Bool = false, isRemovable: Bool = false, identity: DiskIdentity = .test,
        keeper: (any TestKeeper)? = nil, name: String = "test"
    ) {
        self.keeper = keeper
        var geometry = BlockGeometry(blockSize: blockSize, blockCount: blockCount)
        if isThin {
            geometry.discardGranularity = 4096
            geometry.discardReadsZeroes = true
        }
        store = MemoryStore(geometry: geometry)
        disk = Disk(
            store: store, identity: identity, isReadOnly: isReadOnly, isRemovable: isRemovable)
        bus = SCSIBus(initiator: InitiatorPort(name: name), loop: nil)
        do {
            if let keeper { disk.keepState(try keeper.open(), with: keeper) }
        } catch {
            Issue.record(error)
        }
        attach(disk, target: 0, lun: 0)
    }

    /// Attaches a unit and reads its power-on unit attention.
    func attach(_ unit: any LogicalUnit, target: UInt8, lun: Int) {
        guard let lun = LUN(lun) else { return }
        bus.attach(unit, target: target, lun: lun)
        _ = send([0x03, 0, 0, 0, 18, 0], in: 18, to: LUNAddress(target: target, lun: lun))
    }

    /// Starts a command; its index names it.
    @discardableResult
    func start(
        _ cdb: [UInt8], out: [UInt8]? = nil, in inByteCount: Int = 0,
        to address: LUNAddress = LUNAddress(rawValue: 1), attribute: TaskAttribute = .simple,
        tag: UInt64 = 0
    ) -> Int {
        guard let index = bus.commands.reserve() else { return -1 }
        let outBuffer = out.flatMap { $0.isEmpty ? nil : AlignedBuffer(byteCount: $0.count) }
        if let out { outBuffer?.fill(repeating: out.isEmpty ? [0] : out) }
        let inBuffer = inByteCount > 0 ? AlignedBuffer(byteCount: inByteCount) : nil
        inBuffer?.fill(repeating: [0xEE])
        buffers[index] = (outBuffer, inBuffer)
        bus.commands.commands[index].address = address
        bus.commands.commands[index].tag = tag
        bus.commands.commands[index].request.attribute = attribute
        bus.commands.commands[index].request.cdb = CDB(cdb)
        bus.commands.commands[index].request.cdbByteCount = 32
        bus.commands.commands[index].request.dataOut = outBuffer?.pieces(byteCount: out?.count ?? 0)
        bus.commands.commands[index].request.dataOutByteCount = out?.count ?? 0
        bus.commands.commands[index].request.dataIn = inBuffer?.pieces(byteCount: inByteCount)
        bus.commands.commands[index].request.dataInByteCount = inByteCount
        answers[index] = nil
        bus.execute(index)
        collect()
        return index
    }

    /// Looks at what has ended.
    func collect() {
        while let index = bus.commands.popEnded() {
            let moved =
                bus.commands.commands[index].direction == .in
                ? bus.commands.commands[index].movedByteCount : 0
            let buffer = buffers[index]?.in
            answers[index] = Answer(
                response: bus.commands.commands[index].response,
                status: bus.commands.commands[index].status,
                sense: bus.commands.commands[index].status == .checkCondition
                    ? bus.commands.commands[index].sense : [],
                data: (0..<moved).compactMap { buffer?[$0] },
                residual: bus.commands.commands[index].residualByteCount,
                isOverrun: bus.commands.commands[index].isOverrun)
            order.append(index)
            bus.commands.release(index)
        }
    }

    /// Sends a command and lets the store do whatever comes of it.
    @discardableResult
    func send(
        _ cdb: [UInt8], out: [UInt8]? = nil, in inByteCount: Int = 0,
        to address: LUNAddress = LUNAddress(rawValue: 1), attribute: TaskAttribute = .simple
    ) -> Answer {
        let index = start(cdb, out: out, in: inByteCount, to: address, attribute: attribute)
        keeper?.finish()
        store.endAll()
        collect()
        return answers[index]
            ?? Answer(
                response: .targetFailure, status: .busy, sense: [], data: [], residual: -1,
                isOverrun: false)
    }

    /// What a task management function is answered; nil while it is under way.
    func manage(
        _ function: TaskManagementFunction, address: LUNAddress = LUNAddress(rawValue: 1),
        tag: UInt64 = 0
    ) -> TaskManagementResponse? {
        bus.manage(function, address: address, tag: tag, token: 1)
        return endedManagement()
    }

    func endedManagement() -> TaskManagementResponse? {
        collect()
        return bus.commands.takeEndedManagements().first?.response
    }
}

extension DiskIdentity {
    /// What the disks of these tests call themselves.
    static var test: DiskIdentity {
        var identity = DiskIdentity(stableFrom: "test")
        identity.vendor = "ACME"
        identity.product = "Test Disk"
        identity.revision = "0001"
        identity.serial = "SN42"
        identity.worldWideName = [0x30, 1, 2, 3, 4, 5, 6, 7]
        return identity
    }
}
