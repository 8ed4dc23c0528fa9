// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// The guest's memory, as far as the front-end shares it: regions in guest-physical addresses.
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

    public init() {}

    /// The regions, by guest address.
    public var regions: [Region] { [] }

    /// Adds a region; it must not overlap another, nor reach past the end of the address space.
    public func insert(
        _ region: Region, mapping: consuming MappedRegion
    ) throws(GuestMemoryError) {}

    /// Removes and unmaps a region.
    ///
    /// The caller has seen to it that nothing in flight refers to it.
    ///
    /// - Returns: false when there is no such region.
    public func remove(_ region: Region) -> Bool { false }

    /// Removes and unmaps every region, under the same condition.
    public func removeAll() {}

    /// The guest address of a stretch of the front-end's address space; nil unless one region
    /// holds all of it.
    public func guestAddress(
        ofFrontEndAddress address: UInt64, byteCount: UInt64
    ) -> GuestAddress? { nil }

    /// Where writes are recorded while a migration runs; nil otherwise.
    ///
    /// To be changed only while no buffer is taken.
    public var dirtyLog: (any DirtyLog)?
}

/// Why a region was refused.
public enum GuestMemoryError: Error, Equatable {
    /// The region is empty.
    case emptyRegion(GuestAddress)
    /// Start and size overflow 64 bits.
    case regionPastEndOfAddressSpace(GuestAddress, byteCount: UInt64)
    /// The region overlaps another one.
    case overlap(GuestAddress, with: GuestAddress)
    /// There are as many regions as there may be.
    case tooManyRegions(limit: Int)
}

/// Where guest memory that the device wrote is recorded, so that a migration copies it again.
///
/// A mark is made after the data was written and no later than the used buffer is published.
public protocol DirtyLog: AnyObject {
    /// Guest memory was written.
    func markDirty(_ address: GuestAddress, byteCount: UInt64)
}
