// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// WRITE SAME (SBC-3).
extension Disk {
    func writeSame(_ execution: Execution) {
        let cdb = execution.cdb
        let unmaps = cdb[1] & 0x08 != 0
        let anchors = cdb[1] & 0x10 != 0
        let hasNoDataOut = cdb.operationCode == OperationCode.writeSame16 && cdb[1] & 0x01 != 0
        if anchors { return execution.fail(.invalidFieldInCDB(byte: 1, bit: 4)) }
        if unmaps && !isThin { return execution.fail(.invalidFieldInCDB(byte: 1, bit: 3)) }
        guard let extent = checkedExtent(of: execution) else { return }
        let lengthByte = cdb.operationCode == OperationCode.writeSame16 ? 10 : 7
        guard (1...UInt64(DiskLimits.writeSameBlockCount)).contains(extent.count) else {
            return execution.fail(.invalidFieldInCDB(byte: lengthByte))
        }
        guard let block = hasNoDataOut ? [] : blockOfData(execution) else { return }
        guard taskSet.claim(extent, for: execution.index, in: execution.commands) else { return }
        let fill = Fill(extent: extent, block: block, unmaps: unmaps)
        begin(execution).run(fill, on: self)
    }

    /// The one block that the initiator sends; nil when the command has ended without it.
    private func blockOfData(_ execution: Execution) -> [UInt8]? {
        // More would be written only in part, unnoticed; less cannot be meant.
        if execution.commands[execution.index].dataOutByteCount != geometry.blockSize {
            execution.fail(.invalidFieldInCDB(byte: 0))
            return nil
        }
        return execution.parameterList(byteCount: geometry.blockSize)
    }
}

/// Blocks to fill with the same bytes.
struct Fill {
    let extent: BlockExtent
    /// The bytes; none for zeroes.
    let block: [UInt8]
    /// Whether the blocks may be freed instead when that reads as zeroes.
    let unmaps: Bool
}

extension BlockOperation {
    /// Fills blocks: by the store's own means when they become zero, else chunk by chunk.
    func run(_ fill: Fill, on disk: Disk) {
        guard fill.block.allSatisfy({ $0 == 0 }) else { return writePattern(fill, on: disk) }
        writeZeroes(fill.extent, mayFree: fill.unmaps) { [self] outcome in
            switch outcome {
            case .done:
                if disk.isWriteThrough { flush { [self] in succeed() } } else { succeed() }
            case .unsupported: writePattern(fill, on: disk)
            default: fail(outcome, isRead: false, first: fill.extent.first)
            }
        }
    }

    private func writePattern(_ fill: Fill, on disk: Disk) {
        let byteCount = min(DiskLimits.chunkByteCount, disk.byteCount(of: fill.extent))
        let buffer = AlignedBuffer(byteCount: byteCount)
        if !fill.block.isEmpty { buffer.fill(repeating: fill.block) }
        writePattern(buffer, fill.extent, on: disk)
    }

    private func writePattern(_ buffer: AlignedBuffer, _ left: BlockExtent, on disk: Disk) {
        guard left.count > 0 else { return succeed() }
        let count = min(left.count, UInt64(buffer.byteCount / disk.geometry.blockSize))
        let part = BlockExtent(first: left.first, count: count)
        write(
            buffer, byteCount: disk.byteCount(of: part), first: part.first,
            isDurable: disk.isWriteThrough
        ) { [self] in
            let rest = BlockExtent(first: left.first + count, count: left.count - count)
            writePattern(buffer, rest, on: disk)
        }
    }
}
