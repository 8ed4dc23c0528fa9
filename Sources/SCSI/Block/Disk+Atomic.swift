// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// COMPARE AND WRITE and ORWRITE (SBC-3): no other command sees or changes their blocks meanwhile.
extension Disk {
    func compareAndWrite(_ execution: Execution) {
        let cdb = execution.cdb
        let extent = BlockExtent(first: cdb.uint64(at: 2), count: UInt64(cdb[13]))
        guard isWithinMedium(extent) else {
            return execution.fail(Sense(.illegalRequest, .blockAddressOutOfRange))
        }
        // Data for nothing to compare: the number has run over its one byte.
        if extent.count == 0 && execution.commands[execution.index].dataOutByteCount > 0 {
            return execution.fail(.invalidFieldInCDB(byte: 13))
        }
        let byteCount = byteCount(of: extent)
        guard startExclusively(extent, sends: 2 * byteCount, execution) else { return }
        let isDurable = hasForceUnitAccess(cdb) || isWriteThrough
        let operation = begin(execution)
        operation.read(first: extent.first, byteCount: byteCount) { read in
            let sent = AlignedBuffer(byteCount: byteCount)
            operation.load(sent, byteCount: byteCount, from: 0)
            if let difference = read.firstDifference(from: sent, byteCount: byteCount) {
                return operation.failMiscompare(at: difference)
            }
            operation.load(sent, byteCount: byteCount, from: byteCount)
            operation.write(
                sent, byteCount: byteCount, first: extent.first, isDurable: isDurable
            ) { operation.succeedWithData() }
        }
    }

    func orWrite(_ execution: Execution) {
        guard let extent = dataExtent(of: execution),
            startExclusively(extent, sends: byteCount(of: extent), execution)
        else { return }
        begin(execution).orWrite(
            extent, isDurable: hasForceUnitAccess(execution.cdb) || isWriteThrough)
    }

    /// Says what the initiator has to send, and claims the blocks for this command alone.
    ///
    /// - Returns: false when the command has ended, or waits.
    private func startExclusively(
        _ extent: BlockExtent, sends byteCount: Int, _ execution: Execution
    ) -> Bool {
        let index = execution.index
        execution.commands[index].direction = .out
        execution.commands[index].demandedByteCount = byteCount
        if extent.count == 0 || execution.commands[index].isOverrun {
            execution.succeed()
            return false
        }
        return taskSet.claim(
            extent, for: index, isExclusive: true, in: execution.commands)
    }

    /// Whether blocks lie within the medium.
    func isWithinMedium(_ extent: BlockExtent) -> Bool {
        extent.count <= geometry.blockCount && extent.first <= geometry.blockCount - extent.count
    }
}

extension BlockOperation {
    /// Sets bits in blocks, chunk by chunk; then the command has ended.
    fileprivate func orWrite(_ extent: BlockExtent, isDurable: Bool) {
        let byteCount = min(DiskLimits.chunkByteCount, disk.byteCount(of: extent))
        orWrite(
            extent, done: 0, isDurable: isDurable, AlignedBuffer(byteCount: byteCount),
            AlignedBuffer(byteCount: byteCount))
    }

    private func orWrite(
        _ extent: BlockExtent, done: UInt64, isDurable: Bool, _ buffer: AlignedBuffer,
        _ sent: AlignedBuffer
    ) {
        guard done < extent.count else { return succeedWithData() }
        let blockSize = disk.geometry.blockSize
        let count = min(extent.count - done, UInt64(buffer.byteCount / blockSize))
        let byteCount = Int(count) * blockSize
        let first = extent.first + done
        read(first: first, byteCount: byteCount, into: buffer) { [self] _ in
            load(sent, byteCount: byteCount, from: Int(done) * blockSize)
            buffer.formUnion(sent, byteCount: byteCount)
            write(buffer, byteCount: byteCount, first: first, isDurable: isDurable) { [self] in
                orWrite(extent, done: done + count, isDurable: isDurable, buffer, sent)
            }
        }
    }
}
