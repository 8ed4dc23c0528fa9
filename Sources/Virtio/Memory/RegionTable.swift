// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// The regions of guest memory, sorted by guest address, and the way from there to ours.
///
/// Two arrays run in parallel: `lookups` has what the data path needs, `mappings` owns the memory,
/// unless another table does, whose view this one is.
///
/// SAFETY: both arrays have room for `capacity` elements, and no index reaches that.
@safe struct RegionTable: ~Copyable {
    /// VHOST_USER_MAX_RAM_SLOTS, of QEMU.
    static let capacity = 512

    /// A region as the data path sees it.
    @safe struct Lookup {
        var guestAddress: UInt64
        var byteCount: UInt64
        var base: UnsafeMutableRawPointer
    }

    /// A stretch of our own memory that lies in one region.
    @safe struct Piece {
        let base: UnsafeMutableRawPointer
        let byteCount: UInt64
    }

    /// A region and its memory.
    private struct Mapping: ~Copyable {
        let region: GuestMemory.Region
        /// Nil where another table owns the memory.
        let memory: MappedRegion?
    }

    private let lookups: UnsafeMutablePointer<Lookup>
    /// An empty region: what stands where there is none.
    private let nowhere: Lookup
    private let mappings: UnsafeMutablePointer<Mapping>
    /// Where the last translation was found; an empty region when there is none.
    private var lastHit: UnsafeMutablePointer<Lookup>
    private(set) var count = 0
    /// Where writes are recorded; see `GuestMemory.dirtyLog`.
    var dirtyLog = Hook<any DirtyLog>()

    init() {
        unsafe lookups = .allocate(capacity: Self.capacity)
        unsafe nowhere = Lookup(
            guestAddress: 0, byteCount: 0, base: UnsafeMutableRawPointer(lookups))
        unsafe lookups.initialize(repeating: nowhere, count: Self.capacity)
        unsafe mappings = .allocate(capacity: Self.capacity)
        unsafe lastHit = lookups
    }

    deinit {
        // SAFETY: the first `count` are initialised, and this is their one owner.
        unsafe mappings.deinitialize(count: count)
        unsafe mappings.deallocate()
        unsafe lookups.deallocate()
    }

    func region(at index: Int) -> GuestMemory.Region {
        precondition(index >= 0 && index < count, "an index lies within the table")
        // SAFETY: checked just now.
        return unsafe mappings[index].region
    }

    // MARK: Translation

    /// Writes the one piece that a descriptor nearly always is, room for it being reserved.
    ///
    /// - Returns: where the next piece goes; nil when this is not one piece of the region of the
    ///   last time: then `append`.
    @inline(__always)
    mutating func write(
        _ address: UInt64, byteCount: UInt32, at end: PieceWriter
    ) -> PieceWriter? {
        // SAFETY: points into the table, see `lastHit`.
        let region = unsafe lastHit.pointee
        let offset = address &- region.guestAddress
        // An empty stretch is not one piece either: 0 - 1 is larger than any region.
        guard offset < region.byteCount,
            UInt64(byteCount) &- 1 < region.byteCount &- offset
        else { return nil }
        // SAFETY: the whole stretch lies in the region, which stays mapped until it is removed.
        return unsafe end.write(
            region.base + Int(truncatingIfNeeded: offset), byteCount: Int(byteCount))
    }

    /// Appends the pieces that a stretch lies in, none when it is empty.
    ///
    /// - Returns: false when a part of it lies in no region; nothing is appended then.
    @inline(never)
    mutating func append(
        _ address: UInt64, byteCount: UInt64, to pieces: inout IOVectorArray
    ) -> Bool {
        let before = pieces.count
        var address = address
        var left = byteCount
        while left > 0 {
            guard let piece = piece(at: address, upTo: left) else { break }
            unsafe pieces.append(piece.base, byteCount: Int(piece.byteCount))
            left -= piece.byteCount
            address &+= piece.byteCount
            if left > 0 && address == 0 { break }
        }
        if left > 0 { pieces.truncate(to: before) }
        return left == 0
    }

    /// The start of a stretch as far as one region has it; nil when none does.
    mutating func piece(
        at address: UInt64, upTo byteCount: UInt64
    ) -> Piece? {
        guard let index = index(of: address) else { return nil }
        // SAFETY: `index` is less than `count`.
        unsafe lastHit = lookups + index
        let region = unsafe lastHit.pointee
        let offset = address - region.guestAddress
        // SAFETY: `offset` is less than the region's size, which fits Int as the mapping's does.
        let available = min(byteCount, region.byteCount - offset)
        return unsafe Piece(base: region.base + Int(offset), byteCount: available)
    }

    /// A stretch, not empty, that lies in one region; nil when it does not.
    @inline(__always)
    mutating func area(_ address: UInt64, byteCount: Int) -> SharedArea? {
        // SAFETY: points into the table, see `lastHit`.
        let region = unsafe lastHit.pointee
        let offset = address &- region.guestAddress
        guard offset < region.byteCount,
            UInt64(truncatingIfNeeded: byteCount) <= region.byteCount &- offset
        else { return areaElsewhere(address, byteCount: byteCount) }
        // SAFETY: the whole stretch lies in the region, which stays mapped until it is removed.
        return unsafe SharedArea(
            base: region.base + Int(truncatingIfNeeded: offset), byteCount: byteCount)
    }

    @inline(never)
    private mutating func areaElsewhere(_ address: UInt64, byteCount: Int) -> SharedArea? {
        guard let piece = piece(at: address, upTo: UInt64(byteCount)),
            piece.byteCount == UInt64(byteCount)
        else { return nil }
        return unsafe SharedArea(base: piece.base, byteCount: byteCount)
    }

    /// The region that holds `address`, by binary search.
    private func index(of address: UInt64) -> Int? {
        let after = firstIndex(startingAfter: address)
        guard after > 0 else { return nil }
        // SAFETY: 0 <= after - 1 < count.
        let region = unsafe lookups[after - 1]
        return address - region.guestAddress < region.byteCount ? after - 1 : nil
    }

    /// The first region that starts after `address`, or `count`.
    private func firstIndex(startingAfter address: UInt64) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            // SAFETY: 0 <= middle < count.
            if unsafe lookups[middle].guestAddress <= address {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }
}

// MARK: Changes

extension RegionTable {
    /// Adds a region; see `GuestMemory.insert`.
    mutating func insert(
        _ region: GuestMemory.Region, mapping: consuming MappedRegion
    ) throws(GuestMemoryError) {
        try check(region, mappedByteCount: UInt64(mapping.byteCount))
        let start = region.guestAddress.rawValue
        let index = firstIndex(startingAfter: start)
        try checkNeighbours(of: region, at: index)
        let base = unsafe mapping.base
        // SAFETY: count < capacity was checked, so both arrays have room for one more.
        unsafe (mappings + index + 1).moveInitialize(from: mappings + index, count: count - index)
        unsafe (mappings + index).initialize(to: Mapping(region: region, memory: mapping))
        unsafe (lookups + index + 1).update(from: lookups + index, count: count - index)
        unsafe lookups[index] = Lookup(
            guestAddress: start, byteCount: region.byteCount, base: base)
        count += 1
        unsafe lastHit = lookups
    }

    private func check(
        _ region: GuestMemory.Region, mappedByteCount: UInt64
    ) throws(GuestMemoryError) {
        let byteCount = region.byteCount
        guard byteCount > 0 else { throw .emptyRegion(region.guestAddress) }
        // The last byte, not the end: a region may end with the address space.
        if region.guestAddress.rawValue.addingReportingOverflow(byteCount - 1).overflow {
            throw .regionPastEndOfAddressSpace(region.guestAddress, byteCount: byteCount)
        }
        if region.frontEndAddress.addingReportingOverflow(byteCount - 1).overflow {
            throw .frontEndAddressPastEnd(region.frontEndAddress, byteCount: byteCount)
        }
        guard mappedByteCount >= byteCount else {
            throw .mappingTooShort(byteCount: mappedByteCount, regionByteCount: byteCount)
        }
        guard count < Self.capacity else { throw .tooManyRegions(limit: Self.capacity) }
    }

    /// Refuses a region that overlaps the one before or the one after its place.
    private func checkNeighbours(
        of region: GuestMemory.Region, at index: Int
    ) throws(GuestMemoryError) {
        let start = region.guestAddress.rawValue
        if index > 0 {
            let before = self.region(at: index - 1)
            if start - before.guestAddress.rawValue < before.byteCount {
                throw .overlap(region.guestAddress, with: before.guestAddress)
            }
        }
        if index < count {
            let after = self.region(at: index)
            if after.guestAddress.rawValue - start < region.byteCount {
                throw .overlap(region.guestAddress, with: after.guestAddress)
            }
        }
    }

    /// Removes and unmaps a region.
    mutating func remove(at index: Int) {
        precondition(index >= 0 && index < count, "an index lies within the table")
        let following = count - index - 1
        // SAFETY: checked just now; the last place is emptied for good.
        unsafe (mappings + index).deinitialize(count: 1)
        unsafe (mappings + index).moveInitialize(from: mappings + index + 1, count: following)
        unsafe (lookups + index).update(from: lookups + index + 1, count: following)
        count -= 1
        unsafe lookups[count] = nowhere
        unsafe lastHit = lookups
    }

    /// Has the regions of another table from now on, over memory that stays the other's.
    mutating func become(viewOf other: borrowing RegionTable) {
        while count > 0 { remove(at: count - 1) }
        for index in 0..<other.count {
            // SAFETY: both tables have room for `capacity`, and this one is empty.
            unsafe (mappings + index).initialize(
                to: Mapping(region: other.region(at: index), memory: nil))
            unsafe lookups[index] = other.lookups[index]
        }
        count = other.count
        unsafe lastHit = lookups
    }
}
