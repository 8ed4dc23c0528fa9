// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Glibc
import LinuxIO

// MARK: What blocks

extension AIOContext {
    /// Has a worker move the bytes of one step.
    func startTransferJob(_ index: Int) {
        // SAFETY: the pieces of a step stay valid until it has ended.
        guard let store = requests[index].store, let pieces = unsafe requests[index].step.pieces
        else { return }
        let job = unsafe TransferJob(
            calls: calls, descriptor: store.with { $0.descriptorNumber },
            pieces: pieces, count: requests[index].step.count,
            offset: requests[index].stepOffset, isRead: requests[index].isRead,
            isDurable: requests[index].isDurable)
        port.submit(token: UInt64(index), in: store.with { $0.workerLane }) { job.run() }
    }

    /// Has a worker flush the file.
    func startFlushJob(_ index: Int) {
        guard let store = requests[index].store else { return }
        let descriptor = store.with { $0.descriptorNumber }
        port.submit(token: UInt64(index), in: store.with { $0.workerLane }) { [calls] in
            calls.synchronize(descriptor)
        }
    }

    /// Has a worker free or clear a range.
    func startRangeJob(_ index: Int) {
        guard let store = requests[index].store else { return }
        let job = store.with { store in
            RangeJob(
                calls: calls, descriptor: store.descriptorNumber,
                isBlockDevice: store.isBlockDevice,
                readsZeroes: store.geometry.discardReadsZeroes,
                alignment: store.alignment?.length ?? 1,
                operation: requests[index].request.operation,
                range: requests[index].request.range)
        }
        port.submit(token: UInt64(index), in: store.with { $0.workerLane }) { job.run() }
    }
}

/// One step of a transfer on a worker thread.
///
/// SAFETY: the pieces and the memory behind them stay valid until the step has ended, by the
/// contract of `BlockStore.submit`; the loop's thread does not touch them before.
@safe private struct TransferJob: @unchecked Sendable {
    let calls: any BlockingCalls
    let descriptor: Int32
    let pieces: UnsafeMutablePointer<iovec>
    let count: Int
    let offset: UInt64
    let isRead: Bool
    let isDurable: Bool

    func run() -> Int {
        if isRead {
            return unsafe calls.read(descriptor, into: pieces, count: count, at: offset)
        }
        return unsafe calls.write(
            descriptor, from: pieces, count: count, at: offset, isDurable: isDurable)
    }
}

extension BlockRequest {
    /// The bytes of the medium that the request is about.
    var range: Range<UInt64> { offset..<offset + UInt64(byteCount) }
}
