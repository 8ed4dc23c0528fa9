// SPDX-License-Identifier: Apache-2.0

import BlockStorage

/// READ CAPACITY (SBC-3).
extension Disk {
    func readCapacity10(_ execution: Execution) {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(UInt32(clamping: lastBlock))
        bytes.appendBigEndian(UInt32(geometry.blockSize))
        execution.succeed(with: bytes, allocationLength: bytes.count)
    }

    func readCapacity16(_ execution: Execution) {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(lastBlock)
        bytes.appendBigEndian(UInt32(geometry.blockSize))
        let ratio = geometry.physicalBlockSize / geometry.blockSize
        let readsZeroes: UInt8 = geometry.discardReadsZeroes ? 0x40 : 0
        bytes += [
            0, UInt8(ratio.trailingZeroBitCount & 0x0F), isThin ? 0x80 | readsZeroes : 0, 0,
        ]
        bytes += [UInt8](repeating: 0, count: 32 - bytes.count)
        execution.succeed(
            with: bytes, allocationLength: Int(execution.cdb.uint32(at: 10)))
    }

    private var lastBlock: UInt64 { max(1, geometry.blockCount) - 1 }
}
