// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// GET LBA STATUS (SBC-3): which blocks take up space.
extension Disk {
    /// Stretches of blocks that one answer tells of.
    private static let descriptorLimit = 64

    func getBlockStatus(_ execution: Execution) {
        let first = execution.cdb.uint64(at: 2)
        guard first < geometry.blockCount else {
            return execution.fail(Sense(.illegalRequest, .blockAddressOutOfRange))
        }
        let allocationLength = Int(execution.cdb.uint32(at: 10))
        let wanted = max(1, (allocationLength - 8) / 16)
        begin(execution).collectStatus(
            from: first, limit: min(wanted, Self.descriptorLimit), [],
            allocationLength: allocationLength)
    }
}

extension BlockOperation {
    /// Bytes that the store is asked about at once.
    private static let searchByteCount: UInt64 = 1 << 40

    fileprivate func collectStatus(
        from first: UInt64, limit: Int, _ descriptors: [UInt8], allocationLength: Int
    ) {
        // The medium may have shrunk between two steps.
        let blockCount = disk.geometry.blockCount
        let left = blockCount > first ? blockCount - first : 0
        guard left > 0, descriptors.count < 16 * limit else {
            var bytes: [UInt8] = []
            bytes.appendBigEndian(UInt32(descriptors.count + 4))
            bytes += [0, 0, 0, 0] + descriptors
            return succeed(with: bytes, allocationLength: allocationLength)
        }
        let blockSize = UInt64(disk.geometry.blockSize)
        let searched = min(left, Self.searchByteCount / blockSize, UInt64(UInt32.max))
        locate(BlockExtent(first: first, count: searched)) { [self] isAllocated, byteCount in
            // A block that is data in part is mapped.
            let whole = UInt64(byteCount) / blockSize
            let isMapped = isAllocated || whole == 0
            let rounded =
                isAllocated ? (UInt64(byteCount) + blockSize - 1) / blockSize : max(1, whole)
            let count = min(rounded, searched)
            var descriptor: [UInt8] = []
            descriptor.appendBigEndian(first)
            descriptor.appendBigEndian(UInt32(count))
            descriptor += [isMapped ? 0 : 1, 0, 0, 0]
            collectStatus(
                from: first + count, limit: limit, descriptors + descriptor,
                allocationLength: allocationLength)
        }
    }
}
