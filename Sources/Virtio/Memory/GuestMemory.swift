// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// The guest's memory, as far as the front-end shares it: regions in guest-physical addresses.
///
/// One thread uses it, and the queues over it; queues of other threads have views (`makeView`). A region stays mapped until it is removed; whoever
/// removes one has stopped everything that may still refer to it, and calls `revalidate` on the
/// queues that go on.
public final class GuestMemory {
    /// One region of the table.
    public struct Region: Equatable, Sendable {
        /// Where the region starts in the guest's physical memory.
        public var guestAddress: GuestAddress
        /// Where the region starts in the front-end's own address space.
        public var frontEndAddress: UInt64
        /// Bytes.
        public var byteCount: UInt64

        public init(guestAddress: GuestAddress, frontEndAddress: UInt64, byteCount: UInt64) {
            self.guestAddress = guestAddress
            self.frontEndAddress = frontEndAddress
            self.byteCount = byteCount
        }
    }

    /// How many regions there may be; QEMU uses no more.
    public static var regionLimit: Int { RegionTable.capacity }

    /// The table, where the queues reach it without a retain.
    let table = Pinned(RegionTable())
    /// Whose mappings these are, if they are another memory's; kept, and so they stay.
    private let owner: GuestMemory?

    public init() {
        owner = nil
    }

    private init(viewOf owner: GuestMemory) {
        self.owner = owner
        table.value.become(viewOf: owner.table.value)
        dirtyLog = owner.dirtyLog
    }

    /// The same regions in a table of its own, for a queue of another thread.
    ///
    /// Called on this memory's thread; what is inserted here later is not in the view until `follow`
    /// brings it. Nothing is removed here while a queue over a view has buffers in flight.
    public func makeView() -> GuestMemory {
        GuestMemory(viewOf: self)
    }

    /// Has the regions of a younger view of the same memory, where nothing that this one has is
    /// missing.
    ///
    /// Called on this view's thread, between two turns of the queues over it: they go on.
    public func follow(_ view: GuestMemory) {
        precondition(owner != nil && owner === view.owner, "both are views of one memory")
        table.value.become(viewOf: view.table.value)
    }

    /// The regions, by guest address.
    public var regions: [Region] {
        (0..<table.value.count).map { table.value.region(at: $0) }
    }

    /// Adds a region; it must not overlap another, nor reach past the end of the address space.
    ///
    /// - Parameters:
    ///   - region: from the wire, unchecked.
    ///   - mapping: at least `region.byteCount` bytes; unmapped at once when the region is refused.
    /// - Throws: what is wrong with the region; nothing is changed then.
    public func insert(
        _ region: Region, mapping: consuming MappedRegion
    ) throws(GuestMemoryError) {
        try table.value.insert(region, mapping: mapping)
    }

    /// Removes and unmaps a region.
    ///
    /// The caller has seen to it that nothing in flight refers to it.
    ///
    /// - Returns: false when there is no such region.
    public func remove(_ region: Region) -> Bool {
        guard let index = regions.firstIndex(of: region) else { return false }
        table.value.remove(at: index)
        return true
    }

    /// Removes and unmaps every region, under the same condition.
    public func removeAll() {
        while table.value.count > 0 { table.value.remove(at: table.value.count - 1) }
    }

    /// The guest address of a stretch of the front-end's address space; nil unless one region
    /// holds all of it.
    public func guestAddress(
        ofFrontEndAddress address: UInt64, byteCount: UInt64
    ) -> GuestAddress? {
        for region in regions {
            let offset = address &- region.frontEndAddress
            if offset < region.byteCount, byteCount <= region.byteCount - offset {
                return GuestAddress(region.guestAddress.rawValue + offset)
            }
        }
        return nil
    }

    /// Whether every byte of the stretch lies in some region.
    public func contains(_ address: GuestAddress, byteCount: UInt64) -> Bool {
        var address = address.rawValue
        var left = byteCount
        while left > 0 {
            guard let piece = table.value.piece(at: address, upTo: left) else { return false }
            address &+= piece.byteCount
            left -= piece.byteCount
            if left > 0 && address == 0 { return false }
        }
        return true
    }

    /// Appends the pieces of memory that a stretch of guest memory lies in, in order.
    ///
    /// - Returns: false when a part of it lies in no region; nothing is appended then.
    public func append(
        _ address: GuestAddress, byteCount: UInt64, to pieces: inout IOVectorArray
    ) -> Bool {
        table.value.append(address.rawValue, byteCount: byteCount, to: &pieces)
    }

    /// Where writes are recorded while a migration runs; nil otherwise.
    ///
    /// To be changed only while no buffer is taken, because where those lie is not known. Views have
    /// what their memory had when they were made, and so it may be told on several threads.
    public var dirtyLog: (any DirtyLog)? {
        get { table.value.dirtyLog.target }
        set { table.value.dirtyLog = Hook(newValue) }
    }
}
