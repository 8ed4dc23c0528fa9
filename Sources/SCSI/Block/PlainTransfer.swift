// SPDX-License-Identifier: Apache-2.0

/// What a READ or WRITE (10) or (16) asks for that has nothing odd about it (SBC-3).
struct PlainTransfer: BitwiseCopyable {
    let first: UInt64
    let count: UInt64
    let isRead: Bool

    /// Reads a CDB; nil when it is no such one.
    ///
    /// DPO and FUA of byte 1, and the group number, may be set.
    @inline(__always)
    init?(_ cdb: CDB, byteCount: Int) {
        switch cdb.operationCode {
        case OperationCode.read10, OperationCode.write10:
            guard cdb.head & 0x00E7_0000_0000_C000_00FF_0000_0000_0000 == 0, byteCount >= 10
            else { return nil }
            first = UInt64(cdb.uint32(at: 2))
            count = UInt64(cdb.uint16(at: 7))
            isRead = cdb.operationCode == OperationCode.read10
        case OperationCode.read16, OperationCode.write16:
            guard cdb.head & 0x00E7_0000_0000_0000_0000_0000_0000_C0FF == 0, byteCount >= 16
            else { return nil }
            first = cdb.uint64(at: 2)
            count = UInt64(cdb.uint32(at: 10))
            isRead = cdb.operationCode == OperationCode.read16
        default:
            return nil
        }
    }

    /// Whether the blocks lie on a medium of so many, and there is at least one.
    @inline(__always)
    func isWithin(blockCount: UInt64) -> Bool {
        count > 0 && count <= blockCount && first <= blockCount &- count
    }
}
