// SPDX-License-Identifier: Apache-2.0

public import BlockStorage
import LinuxIO

/// READ and WRITE (SBC-3).
extension Disk {
    // MARK: The data path

    /// Starts a READ or WRITE (10) or (16) with nothing odd about it, straight between the store and
    /// the initiator's buffer.
    ///
    /// - Returns: false when it is not one of those, and nothing was done.
    @inline(__always)
    func transferPlainly(_ index: Int, in commands: CommandTable) -> Bool {
        guard
            let transfer = PlainTransfer(
                commands[index].cdb, byteCount: commands[index].cdbByteCount)
        else { return false }
        let first = transfer.first
        let count = transfer.count
        let isRead = transfer.isRead
        let byteCount = Int(truncatingIfNeeded: count << state.value.blockShift)
        let bufferByteCount =
            isRead ? commands[index].dataInByteCount : commands[index].dataOutByteCount
        guard transfer.isWithin(blockCount: state.value.geometry.blockCount),
            byteCount == bufferByteCount, byteCount <= DiskLimits.transferByteCount,
            isRead || !isWriteProtected
        else { return false }
        let extent = BlockExtent(first: first, count: count)
        guard taskSet.claim(extent, for: index, in: commands) else { return true }
        commands[index].direction = isRead ? .in : .out
        commands[index].demandedByteCount = byteCount
        commands[index].pendingPartCount = 1
        let isDurable = !isRead && (commands[index].cdb[1] & 0x08 != 0 || isWriteThrough)
        let pieces = isRead ? commands[index].dataIn : commands[index].dataOut
        store.submit(
            BlockRequest(
                isRead ? .read : .write(isDurable: isDurable),
                offset: first << state.value.blockShift, byteCount: byteCount, pieces: pieces),
            owner: self, token: UInt64(truncatingIfNeeded: index))
        return true
    }

    /// Whether a write ends only when it is on the medium: the write cache is disabled.
    @inline(__always)
    var isWriteThrough: Bool { !state.value.modes.isWriteCacheEnabled }

    @inline(__always)
    public func blockRequestEnded(token: UInt64, outcome: BlockOutcome) {
        guard let commands = state.value.commands else { return }
        commands.with { partEnded(of: Int(truncatingIfNeeded: token), outcome, in: $0) }
    }

    @inline(__always)
    private func partEnded(of index: Int, _ outcome: BlockOutcome, in commands: CommandTable) {
        commands[index].pendingPartCount &-= 1
        if case .done = outcome {
        } else if commands[index].partFailure == nil {
            commands[index].partFailure = PartFailure(outcome)
        }
        if commands[index].pendingPartCount > 0 { return }
        if commands[index].partFailure == nil {
            commands[index].movedByteCount = min(
                commands[index].demandedByteCount,
                commands[index].direction == .in
                    ? commands[index].dataInByteCount : commands[index].dataOutByteCount)
            commands.end(index)
        } else {
            endFailed(index, in: commands)
        }
    }

    @inline(never)
    private func endFailed(_ index: Int, in commands: CommandTable) {
        guard let failure = commands[index].partFailure else { return }
        commands[index].partFailure = nil
        commands[index].movedByteCount = 0
        let isRead = commands[index].direction == .in
        if isRead, case .mediumError(let good) = failure.outcome {
            commands[index].movedByteCount = min(good, commands[index].dataInByteCount)
        }
        fail(
            index, in: commands, failure.outcome, isRead: isRead,
            first: commands[index].extent.first)
    }

    /// Ends a command as the store's answer to a read or write that began at a block says.
    func fail(
        _ index: Int, in commands: CommandTable, _ outcome: BlockOutcome, isRead: Bool,
        first: UInt64
    ) {
        if case .busy = outcome {
            commands[index].demandedByteCount = 0
            return commands.end(index, status: .busy)
        }
        if case .outOfRange = outcome { takeGeometry() }
        commands.fail(index, sense(of: outcome, isRead: isRead, first: first))
    }

    private func sense(of outcome: BlockOutcome, isRead: Bool, first: UInt64) -> Sense {
        switch outcome {
        case .mediumError(let good):
            Sense(
                .mediumError, isRead ? .unrecoveredReadError : .writeError,
                information: first + UInt64(good) >> state.value.blockShift)
        case .noSpace: Sense(.dataProtect, .spaceAllocationFailed)
        case .outOfRange: Sense(.illegalRequest, .blockAddressOutOfRange)
        case .gone: Sense(.notReady, .mediumNotPresent)
        case .unsupported, .busy, .done, .located: Sense(.hardwareError, .internalTargetFailure)
        }
    }

    // MARK: Everything else

    /// READ (6), (10), (12), (16).
    func read(_ execution: Execution) {
        let index = execution.index
        let commands = execution.commands
        guard let extent = dataExtent(of: execution) else { return }
        commands[index].direction = .in
        commands[index].demandedByteCount = byteCount(of: extent)
        guard taskSet.claim(extent, for: index, in: commands) else { return }
        let room = commands[index].dataInByteCount
        if extent.count == 0 || room == 0 { return execution.succeed() }
        if room < byteCount(of: extent) { return readShort(execution, extent) }
        submit(.read, extent, execution, pieces: commands[index].dataIn)
    }

    /// WRITE (6), (10), (12), (16), and WRITE ATOMIC.
    func write(_ execution: Execution) {
        let index = execution.index
        let commands = execution.commands
        guard let extent = dataExtent(of: execution) else { return }
        commands[index].direction = .out
        commands[index].demandedByteCount = byteCount(of: extent)
        guard taskSet.claim(extent, for: index, in: commands) else { return }
        if extent.count == 0 || commands[index].isOverrun { return execution.succeed() }
        let isDurable = hasForceUnitAccess(execution.cdb) || isWriteThrough
        submit(
            .write(isDurable: isDurable), extent, execution, pieces: commands[index].dataOut)
    }

    /// Hands a request over whose buffer is long enough.
    private func submit(
        _ operation: BlockRequest.Operation, _ extent: BlockExtent, _ execution: Execution,
        pieces: IOVectorSlice?
    ) {
        let index = execution.index
        let commands = execution.commands
        let byteCount = byteCount(of: extent)
        commands[index].pendingPartCount = 1
        let trimmed = pieces.map { commands.trim($0, of: index, to: byteCount) }
        store.submit(
            BlockRequest(
                operation, offset: offset(of: extent.first), byteCount: byteCount,
                pieces: trimmed),
            owner: self, token: UInt64(index))
    }

    /// Reads as much as the initiator has room for, which is less than the command asks for.
    private func readShort(_ execution: Execution, _ extent: BlockExtent) {
        if endsForLackOfRoom(execution) { return }
        let room = execution.commands[execution.index].dataInByteCount
        let blockSize = geometry.blockSize
        let whole = (room + blockSize - 1) / blockSize * blockSize
        let buffer = AlignedBuffer(byteCount: min(whole, DiskLimits.chunkByteCount))
        begin(execution).readShort(first: extent.first, room: room, done: 0, buffer)
    }

    // MARK: Fields of the CDBs

    /// The blocks of a READ, WRITE or similar command; nil when the command has ended because it
    /// must not touch them.
    func dataExtent(of execution: Execution) -> BlockExtent? {
        guard let extent = checkedExtent(of: execution) else { return nil }
        guard byteCount(of: extent) <= DiskLimits.transferByteCount else {
            let byte = Self.transferLengthByte(of: execution.cdb)
            execution.fail(.invalidFieldInCDB(byte: byte))
            return nil
        }
        return extent
    }

    /// The blocks that a CDB names; nil when the command has ended because they lie outside the
    /// medium.
    func checkedExtent(of execution: Execution) -> BlockExtent? {
        let extent = Self.extent(of: execution.cdb)
        guard isWithinMedium(extent) else {
            execution.fail(Sense(.illegalRequest, .blockAddressOutOfRange))
            return nil
        }
        return extent
    }

    /// First block and count, where the CDB's length says that they stand (SPC-4, Fixed length CDB
    /// formats).
    static func extent(of cdb: CDB) -> BlockExtent {
        switch cdb.operationCode >> 5 {
        case 0:
            // Of 6 bytes: 21 bits of address, and no blocks means 256.
            let count = cdb[4] == 0 ? 256 : UInt64(cdb[4])
            return BlockExtent(first: UInt64(cdb.uint24(at: 1) & 0x1F_FFFF), count: count)
        case 1, 2:
            return BlockExtent(
                first: UInt64(cdb.uint32(at: 2)), count: UInt64(cdb.uint16(at: 7)))
        case 5:
            return BlockExtent(
                first: UInt64(cdb.uint32(at: 2)), count: UInt64(cdb.uint32(at: 6)))
        default:
            return BlockExtent(first: cdb.uint64(at: 2), count: UInt64(cdb.uint32(at: 10)))
        }
    }

    /// Where the transfer length of a CDB stands.
    private static func transferLengthByte(of cdb: CDB) -> Int {
        switch cdb.operationCode >> 5 {
        case 0: 4
        case 1, 2: 7
        case 5: 6
        default: 10
        }
    }

    /// FUA, which a CDB of 6 bytes does not have.
    func hasForceUnitAccess(_ cdb: CDB) -> Bool {
        cdb.operationCode >> 5 != 0 && cdb[1] & 0x08 != 0
    }

    func byteCount(of extent: BlockExtent) -> Int {
        Int(clamping: extent.count.multipliedReportingOverflow(by: UInt64(geometry.blockSize)).0)
    }

    func offset(of block: UInt64) -> UInt64 { block << state.value.blockShift }
}

/// How a request of the store failed.
struct PartFailure {
    let outcome: BlockOutcome

    init(_ outcome: BlockOutcome) {
        self.outcome = outcome
    }
}

extension CommandTable {
    /// The pieces of a buffer cut off after `byteCount` bytes; itself when it is no longer.
    func trim(_ pieces: IOVectorSlice, of index: Int, to byteCount: Int) -> IOVectorSlice {
        if pieces.byteCount == byteCount { return pieces }
        self[index].trimmedPieces.removeAll()
        let range = self[index].trimmedPieces.append(pieces, from: 0, byteCount: byteCount)
        return self[index].trimmedPieces.slice(range)
    }
}
