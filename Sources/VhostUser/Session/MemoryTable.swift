// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage
import Virtio

/// The guest's memory as the front-end describes it: which regions there are, and where a front-end
/// address lies.
///
/// It lives as long as the connection: front-ends that use memory slots send a region once and
/// never again, whatever is stopped or reset in between.
struct MemoryTable {
    /// Regions that a front-end may add, as GET_MAX_MEM_SLOTS reports it.
    static let slotCount = 509

    /// The mappings; queues keep it for as long as they use it.
    private(set) var guestMemory = GuestMemory()

    var isEmpty: Bool { guestMemory.regions.isEmpty }

    /// Maps a region.
    ///
    /// Nothing that is mapped already moves.
    mutating func add(
        _ description: RegionDescription, descriptor: consuming OwnedDescriptor
    ) throws(VhostUserError) {
        try Self.map(description, descriptor, into: guestMemory)
    }

    /// Whether there is this very region.
    ///
    /// Its place in the file does not count (vhost-user, "VHOST_USER_REM_MEM_REG").
    func contains(_ description: RegionDescription) -> Bool {
        guestMemory.regions.contains(description.region)
    }

    /// Unmaps a region that nothing in flight refers to.
    mutating func remove(_ description: RegionDescription) {
        _ = guestMemory.remove(description.region)
    }

    /// A whole new table, mapped beside the old one.
    static func map(
        _ descriptions: [RegionDescription], descriptors: ReceivedDescriptors
    ) throws(VhostUserError) -> GuestMemory {
        let memory = GuestMemory()
        for (index, description) in descriptions.enumerated() {
            guard let descriptor = descriptors.take(index) else {
                throw .illegalDescriptorCount(.setMemoryTable, count: descriptors.count)
            }
            try map(description, descriptor, into: memory)
        }
        return memory
    }

    /// Uses another table from now on; the old one goes when its last queue goes.
    mutating func replace(with memory: GuestMemory) {
        guestMemory = memory
    }

    private static func map(
        _ description: RegionDescription, _ descriptor: consuming OwnedDescriptor,
        into memory: GuestMemory
    ) throws(VhostUserError) {
        let region = description.region
        guard !region.frontEndAddress.addingReportingOverflow(region.byteCount).overflow else {
            throw .regionPastEndOfAddressSpace(region.frontEndAddress)
        }
        let mapping: MappedRegion
        do throws(Errno) {
            mapping = try MappedRegion(
                descriptor, offset: description.fileOffset, byteCount: region.byteCount)
        } catch {
            throw .mappingFailed(region.guestAddress, error)
        }
        do throws(GuestMemoryError) {
            try memory.insert(region, mapping: mapping)
        } catch {
            throw .regionRefused(error)
        }
    }
}
