// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// The way to indirect tables (virtio 1.3 §2.7.5.3, §2.8.7).
struct IndirectTables: ~Copyable {
    /// Descriptors that a table may have: the queue size, but never fewer than Linux drivers use,
    /// whatever the size: 1024 segments, a header and a status.
    let limit: Int
    /// The same in bytes.
    private let byteLimit: UInt32
    private let isNegotiated: Bool
    /// Where a table is copied to when it does not lie in one piece; made when first needed.
    private var copy: PlainTable<Descriptor>?
    /// Where the pieces of such a table are gathered.
    private var pieces = IOVectorArray(capacity: 2)

    init(_ configuration: VirtqueueConfiguration) {
        limit = max(configuration.size, 1024) + 2
        byteLimit = UInt32(16 * limit)
        isNegotiated = configuration.features.contains(.indirectDescriptors)
    }

    /// Finds the table that a descriptor refers to.
    ///
    /// The descriptor's WRITE flag is ignored (virtio 1.3 §2.7.5.3.2).
    ///
    /// - Returns: the table, valid until the next one is opened; nil when the descriptor is wrong,
    ///   and `error` says how.
    @inline(__always)
    mutating func open(
        _ address: UInt64, byteCount: UInt32, flags: UInt16,
        memory: PinnedReference<RegionTable>, error: inout VirtqueueError?
    ) -> SharedArea? {
        guard isNegotiated, flags & DescriptorFlags.next == 0,
            byteCount &- 1 < byteLimit, byteCount & 15 == 0
        else {
            error = refusal(byteCount, flags)
            return nil
        }
        // Misaligned tables are legal; loads of 8 bytes that are done once need alignment.
        if address & 7 == 0, let table = memory.value.area(address, byteCount: Int(byteCount)) {
            return table
        }
        return copyTable(address, byteCount: byteCount, memory: memory, error: &error)
    }

    @inline(never)
    private mutating func refusal(_ byteCount: UInt32, _ flags: UInt16) -> VirtqueueError {
        if !isNegotiated { return .indirectNotNegotiated }
        if flags & DescriptorFlags.next != 0 { return .indirectWithNext }
        return .indirectTableLength(byteCount: byteCount, limit: limit)
    }

    /// Copies a table that crosses regions, or is misaligned, to where it can be read.
    @inline(never)
    private mutating func copyTable(
        _ address: UInt64, byteCount: UInt32, memory: PinnedReference<RegionTable>,
        error: inout VirtqueueError?
    ) -> SharedArea? {
        pieces.removeAll()
        guard memory.value.append(address, byteCount: UInt64(byteCount), to: &pieces) else {
            error = .indirectTableOutsideMemory(GuestAddress(address), byteCount: byteCount)
            return nil
        }
        let copy = self.copy.take() ?? PlainTable(count: limit)
        let area = copy.area(byteCount: Int(byteCount))
        area.copyBytes(from: pieces.all)
        self.copy = consume copy
        return area
    }
}
