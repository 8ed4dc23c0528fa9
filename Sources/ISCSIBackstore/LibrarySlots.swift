// SPDX-License-Identifier: Apache-2.0

import CLibiscsi
import Glibc
import LinuxIO

/// The commands that the library holds, each with the task that it works on.
///
/// A task lies at a fixed address and is used again and again: the library allocates nothing for
/// it, and the memory pieces of a command are used where they are.
///
/// Lives on its device's thread.
//
// SAFETY: the three arrays have `count` elements, initialised or plain data, from `init` to `deinit`;
// every index comes from the list of the free ones or is checked by `index(of:)`. The library works on a
// task only until it has called back, or its context is gone; one thread uses all of it.
@safe final class LibrarySlots {
    /// Pieces that one readv or writev takes (IOV_MAX).
    private static let maximumPieces = 1024

    /// What a command needs beside its task.
    @safe private struct Slot {
        var command: ISCSICommand?
        /// Holds the data of a command with too many pieces.
        var bounce: UnsafeMutableRawPointer?
    }

    private let count: Int
    private let tasks: UnsafeMutablePointer<scsi_task>
    private let contents: UnsafeMutablePointer<Slot>
    /// The one piece of each bounce buffer.
    private let bounceVectors: UnsafeMutablePointer<scsi_iovec>
    private let freeIndices: Cell<[Int]>

    init(count: Int) {
        self.count = count
        unsafe tasks = .allocate(capacity: count)
        unsafe tasks.initialize(repeating: scsi_task(), count: count)
        unsafe contents = .allocate(capacity: count)
        unsafe contents.initialize(repeating: Slot(), count: count)
        unsafe bounceVectors = .allocate(capacity: count)
        freeIndices = Cell(Array((0..<count).reversed()))
    }

    deinit {
        freeAll()
        unsafe contents.deinitialize(count: count)
        unsafe contents.deallocate()
        unsafe bounceVectors.deallocate()
        unsafe tasks.deallocate()
    }

    /// Commands that the library holds.
    var usedCount: Int { count - freeIndices.value.count }

    /// The library's view of a slot.
    func task(_ index: Int) -> UnsafeMutablePointer<scsi_task> {
        // SAFETY: indices come from `take` and `index(of:)`, which keep them within the count.
        unsafe tasks + index
    }

    /// The slot that a task of the library is in.
    func index(of task: UnsafeMutableRawPointer) -> Int? {
        // SAFETY: only the distance of the addresses is used, and checked.
        let offset = unsafe task - UnsafeMutableRawPointer(tasks)
        let index = unsafe offset / MemoryLayout<scsi_task>.stride
        guard (0..<count).contains(index), unsafe contents[index].command != nil else { return nil }
        return index
    }

    /// What a task management request names a command by: its initiator task tag and CmdSN.
    func identity(_ index: Int) -> (tag: UInt32, number: UInt32) {
        unsafe (tasks[index].itt, tasks[index].cmdsn)
    }

    /// The slots in use, in the order in which their commands were submitted.
    func usedIndices() -> [Int] {
        var used: [(sequence: UInt64, index: Int)] = []
        for index in 0..<count {
            if let command = unsafe contents[index].command {
                used.append((command.sequence, index))
            }
        }
        return used.sorted { $0.sequence < $1.sequence }.map { $0.index }
    }

    /// The command in a slot that is in use.
    func command(_ index: Int) -> ISCSICommand? { unsafe contents[index].command }

    /// Notes that the command in a slot broke the connection.
    func blame(_ index: Int) {
        unsafe contents[index].command?.failureCount += 1
    }

    // MARK: Taking

    /// Fills a free slot; nil when there is none, or no memory for a bounce buffer.
    func take(_ command: ISCSICommand) -> Int? {
        guard let index = freeIndices.value.popLast() else { return nil }
        // SAFETY: the index is within the count and nobody else's. A task is plain data; the pieces
        // are valid until the command's owner is called, by the contract of `ISCSICommand`.
        let task = unsafe tasks + index
        unsafe task.pointee = scsi_task()
        unsafe task.pointee.cdb_size = 16
        unsafe task.pointee.xfer_dir = command.direction.rawValue
        unsafe task.pointee.expxferlen = Int32(command.byteCount)
        unsafe withUnsafeMutableBytes(of: &task.pointee.cdb) { cdb in
            unsafe cdb.storeBytes(of: command.firstCDBWord.bigEndian, as: UInt64.self)
            unsafe cdb.storeBytes(
                of: command.secondCDBWord.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        unsafe contents[index].command = command
        guard command.byteCount > 0, command.direction != .none, let pieces = command.pieces else {
            return index
        }
        if pieces.count <= Self.maximumPieces {
            let vectors = unsafe UnsafeMutableRawPointer(pieces.base)
                .assumingMemoryBound(to: scsi_iovec.self)
            unsafe attach(vectors, pieces.count, to: task, command.direction)
        } else if !bounce(index, pieces) {
            free(index)
            return nil
        }
        return index
    }

    private func attach(
        _ vectors: UnsafeMutablePointer<scsi_iovec>, _ count: Int,
        to task: UnsafeMutablePointer<scsi_task>, _ direction: ISCSICommand.Direction
    ) {
        // SAFETY: `struct scsi_iovec` is declared to follow `struct iovec` for ever.
        if direction == .write {
            unsafe scsi_task_set_iov_out(task, vectors, Int32(count))
        } else {
            unsafe scsi_task_set_iov_in(task, vectors, Int32(count))
        }
    }

    /// Has the data pass through one buffer, since one system call does not take so many pieces.
    private func bounce(_ index: Int, _ pieces: IOVectorSlice) -> Bool {
        guard let command = unsafe contents[index].command,
            // Zeroed: a target may send less than it says, and the guest gets all of it.
            let buffer = unsafe calloc(1, command.byteCount)
        else { return false }
        // SAFETY: the buffer has byteCount bytes and lives until the slot is freed.
        unsafe contents[index].bounce = buffer
        unsafe (bounceVectors + index).initialize(
            to: scsi_iovec(iov_base: buffer, iov_len: command.byteCount))
        if command.direction == .write {
            var span = unsafe MutableRawSpan(_unsafeStart: buffer, byteCount: command.byteCount)
            _ = pieces.copyBytes(into: &span)
        }
        unsafe attach(bounceVectors + index, 1, to: tasks + index, command.direction)
        return true
    }

    // MARK: Ending

    /// Frees a slot and hands over its command, with what the library gathered for it.
    func finish(
        _ index: Int, _ body: (ISCSICommand, ISCSIResidual, RawSpan) -> Void
    ) {
        guard let command = unsafe contents[index].command else { return }
        // SAFETY: the library allocated datain for this task and leaves it to us; it is freed after
        // the body has run, and the slot only then is anybody else's.
        let gathered = unsafe tasks[index].datain
        let residual = self.residual(index)
        if command.direction == .read { copyBack(index, command, residual) }
        unsafe tasks[index].datain = scsi_data()
        free(index)
        if let data = unsafe gathered.data {
            body(
                command, residual, unsafe RawSpan(_unsafeStart: data, byteCount: Int(gathered.size))
            )
            unsafe Glibc.free(data)
        } else {
            body(command, residual, RawSpan())
        }
    }

    private func residual(_ index: Int) -> ISCSIResidual {
        let count = unsafe Int(truncatingIfNeeded: tasks[index].residual)
        switch unsafe tasks[index].residual_status {
        case SCSI_RESIDUAL_UNDERFLOW: return .underflow(count)
        case SCSI_RESIDUAL_OVERFLOW: return .overflow(count)
        default: return .none
        }
    }

    private func copyBack(_ index: Int, _ command: ISCSICommand, _ residual: ISCSIResidual) {
        guard let buffer = unsafe contents[index].bounce, let pieces = command.pieces else {
            return
        }
        var received = command.byteCount
        if case .underflow(let missing) = residual { received -= min(received, missing) }
        _ = pieces.store(bytes: unsafe RawSpan(_unsafeStart: buffer, byteCount: received))
    }

    /// Empties a slot.
    func free(_ index: Int) {
        guard unsafe contents[index].command != nil else { return }
        // SAFETY: the library no longer knows the task.
        unsafe Glibc.free(contents[index].bounce)
        unsafe Glibc.free(tasks[index].datain.data)
        unsafe tasks[index].datain = scsi_data()
        unsafe contents[index] = Slot()
        freeIndices.value.append(index)
    }

    /// Empties every slot, once the library's context is gone.
    func freeAll() {
        for index in 0..<count { free(index) }
    }
}
