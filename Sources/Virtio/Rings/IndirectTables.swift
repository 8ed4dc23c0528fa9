// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// The way to indirect tables (virtio 1.3 §2.7.5.3, §2.8.7).
struct IndirectTables: ~Copyable {
    /// Descriptors that a table may have: the queue size, but never fewer than Linux drivers use,
    /// whatever the size: 1024 segments, a header and a status.
    let limit: Int
    private let isNegotiated: Bool
    /// Where a table is copied to when it does not lie in one piece; made when first needed.
    private var copy: PlainTable<Descriptor>?
    /// Where the pieces of such a table are gathered.
    private var pieces = IOVectorArray(capacity: 2)

    init(_ configuration: VirtqueueConfiguration) {
        limit = max(configuration.size, 1024) + 2
        isNegotiated = configuration.features.contains(.indirectDescriptors)
    }

    /// Checks the descriptor that refers to a table, and finds the table.
    ///
    /// The descriptor's WRITE flag is ignored (virtio 1.3 §2.7.5.3.2).
    mutating func open(
        _ address: UInt64, byteCount: UInt32, flags: UInt16,
        memory: PinnedReference<RegionTable>
    ) throws(VirtqueueError) -> SharedArea {
        guard isNegotiated else { throw .indirectNotNegotiated }
        guard flags & DescriptorFlags.next == 0 else { throw .indirectWithNext }
        guard byteCount > 0, byteCount % 16 == 0, Int(byteCount) <= 16 * limit else {
            throw .indirectTableLength(byteCount: byteCount, limit: limit)
        }
        // Misaligned tables are legal; loads of 8 bytes that are done once need alignment.
        if address % 8 == 0,
            let table = memory.value.area(address, byteCount: Int(byteCount))
        {
            return table
        }
        return try copyTable(address, byteCount: byteCount, memory: memory)
    }

    /// Copies a table that crosses regions, or is misaligned, to where it can be read.
    @inline(never)
    private mutating func copyTable(
        _ address: UInt64, byteCount: UInt32, memory: PinnedReference<RegionTable>
    ) throws(VirtqueueError) -> SharedArea {
        pieces.removeAll()
        guard memory.value.append(address, byteCount: UInt64(byteCount), to: &pieces) else {
            throw .indirectTableOutsideMemory(GuestAddress(address), byteCount: byteCount)
        }
        let copy = self.copy.take() ?? PlainTable(count: limit)
        let area = copy.area(byteCount: Int(byteCount))
        area.copyBytes(from: pieces.all)
        self.copy = consume copy
        return area
    }
}
