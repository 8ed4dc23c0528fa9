// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// A command that takes several steps, or goes through memory of ours.
///
/// Each step is a request to the store and what to do when it was done; a request that fails ends
/// the command. The disk keeps the operation until it has ended.
///
/// Lives on its device's thread.
final class BlockOperation: BlockRequestOwner {
    let disk: Disk
    private let execution: Execution
    private var continuation: ((BlockOutcome) -> Void)?
    /// The memory that the request under way uses.
    private var bufferInUse: AlignedBuffer?

    init(_ disk: Disk, _ execution: Execution) {
        self.disk = disk
        self.execution = execution
    }

    var index: Int { execution.index }
    var commands: CommandTable { execution.commands }

    // MARK: Steps

    /// Reads blocks into memory of ours.
    func read(
        first: UInt64, byteCount: Int, into buffer: AlignedBuffer? = nil,
        then body: @escaping (AlignedBuffer) -> Void
    ) {
        let buffer = buffer ?? AlignedBuffer(byteCount: byteCount)
        let request = BlockRequest(
            .read, offset: disk.offset(of: first), byteCount: byteCount,
            pieces: buffer.pieces(byteCount: byteCount))
        bufferInUse = buffer
        submit(request, isRead: true, first: first) { body(buffer) }
    }

    /// Writes blocks from memory of ours.
    func write(
        _ buffer: AlignedBuffer, byteCount: Int, first: UInt64, isDurable: Bool,
        then body: @escaping () -> Void
    ) {
        let request = BlockRequest(
            .write(isDurable: isDurable), offset: disk.offset(of: first), byteCount: byteCount,
            pieces: buffer.pieces(byteCount: byteCount))
        bufferInUse = buffer
        submit(request, isRead: false, first: first, then: body)
    }

    /// Writes blocks straight from the initiator's buffer.
    func writeData(_ extent: BlockExtent, isDurable: Bool, then body: @escaping () -> Void) {
        let byteCount = disk.byteCount(of: extent)
        let pieces = commands[index].dataOut.map { commands.trim($0, of: index, to: byteCount) }
        let request = BlockRequest(
            .write(isDurable: isDurable), offset: disk.offset(of: extent.first),
            byteCount: byteCount, pieces: pieces)
        submit(request, isRead: false, first: extent.first, then: body)
    }

    /// Writes zeroes.
    func writeZeroes(
        _ extent: BlockExtent, mayFree: Bool, then body: @escaping (BlockOutcome) -> Void
    ) {
        start(
            BlockRequest(
                .writeZeroes(mayFree: mayFree), offset: disk.offset(of: extent.first),
                byteCount: disk.byteCount(of: extent)), then: body)
    }

    /// Asks which blocks take up space, for as far as the answer is the same.
    func locate(_ extent: BlockExtent, then body: @escaping (Bool, Int) -> Void) {
        start(
            BlockRequest(
                .locate, offset: disk.offset(of: extent.first),
                byteCount: disk.byteCount(of: extent))
        ) { [self] outcome in
            switch outcome {
            case .located(let isAllocated, let byteCount): body(isAllocated, byteCount)
            // A store that does not tell has all of them.
            case .unsupported: body(true, disk.byteCount(of: extent))
            default: fail(outcome, isRead: true, first: extent.first)
            }
        }
    }

    /// Makes everything written durable.
    func flush(then body: @escaping () -> Void) {
        submit(BlockRequest(.flush), isRead: false, first: 0, then: body)
    }

    private func submit(
        _ request: BlockRequest, isRead: Bool, first: UInt64, then body: @escaping () -> Void
    ) {
        start(request) { [self] outcome in
            if case .done = outcome {
                body()
            } else {
                fail(outcome, isRead: isRead, first: first)
            }
        }
    }

    private func start(_ request: BlockRequest, then body: @escaping (BlockOutcome) -> Void) {
        if isAborted { return finish { execution.succeed() } }
        continuation = body
        disk.store.submit(request, owner: self, token: 0)
    }

    func blockRequestEnded(token: UInt64, outcome: BlockOutcome) {
        let body = continuation
        continuation = nil
        bufferInUse = nil
        if isAborted { return finish { execution.succeed() } }
        body?(outcome)
    }

    /// Whether nobody wants the outcome any more.
    private var isAborted: Bool { commands[index].abortResponse != .complete }

    // MARK: The initiator's buffer

    /// Reads blocks chunk by chunk into as much as the initiator has room for.
    ///
    /// - Parameters:
    ///   - first: the first block of all.
    ///   - room: bytes that the initiator takes.
    ///   - done: bytes that it has; a multiple of the block size until all are.
    ///   - buffer: a multiple of the block size.
    func readShort(first: UInt64, room: Int, done: Int, _ buffer: AlignedBuffer) {
        guard done < room else { return succeed() }
        let blockSize = disk.geometry.blockSize
        let wanted = min(room - done, buffer.byteCount)
        let whole = (wanted + blockSize - 1) / blockSize * blockSize
        let block = first + UInt64(done / blockSize)
        read(first: block, byteCount: whole, into: buffer) { [self] _ in
            if let dataIn = commands[index].dataIn {
                commands[index].movedByteCount +=
                    buffer.copy(byteCount: wanted, to: dataIn, at: done)
            }
            readShort(first: first, room: room, done: done + wanted, buffer)
        }
    }

    /// Copies bytes that the initiator sends into a buffer of ours.
    func load(_ buffer: AlignedBuffer, byteCount: Int, from offset: Int) {
        guard let dataOut = commands[index].dataOut else { return }
        buffer.fill(from: dataOut, at: offset, byteCount: byteCount)
    }

    // MARK: Ends

    /// GOOD.
    func succeed() {
        finish { execution.succeed() }
    }

    /// GOOD, with all that the initiator was to send.
    func succeedWithData() {
        commands[index].movedByteCount = commands[index].demandedByteCount
        succeed()
    }

    /// GOOD with data-in.
    func succeed(with bytes: [UInt8], allocationLength: Int) {
        finish { execution.succeed(with: bytes, allocationLength: allocationLength) }
    }

    /// CHECK CONDITION.
    func fail(_ sense: Sense) {
        finish { execution.fail(sense) }
    }

    /// What the store's answer says.
    func fail(_ outcome: BlockOutcome, isRead: Bool, first: UInt64) {
        finish { disk.fail(index, in: commands, outcome, isRead: isRead, first: first) }
    }

    private func finish(_ end: () -> Void) {
        disk.operations[index] = nil
        end()
    }
}

extension Disk {
    /// Starts an operation of several steps.
    func begin(_ execution: Execution) -> BlockOperation {
        let operation = BlockOperation(self, execution)
        operations[execution.index] = operation
        return operation
    }
}
