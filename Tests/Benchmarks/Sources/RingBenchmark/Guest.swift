// SPDX-License-Identifier: Apache-2.0

import CGuest
import LinuxIO
import Virtio

/// Guest memory in four regions, with a driver in it.
final class Guest {
    let memory = GuestMemory()
    let guest: OpaquePointer
    /// Where the regions are mapped.
    let bases: [UnsafeMutableRawPointer?]

    init(_ one: Case) throws {
        let byteCount = GUEST_REGION_SIZE
        let count = UInt32(GUEST_REGION_COUNT)
        let file = try OwnedDescriptor.memoryFile(
            name: "benchmark", byteCount: byteCount * Int(count))
        var bases: [UnsafeMutableRawPointer?] = []
        for index in 0..<count {
            let mapping = try MappedRegion(
                file, offset: UInt64(Int(index) * byteCount), byteCount: UInt64(byteCount))
            let address = guest_region_address(index)
            bases.append(mapping.base)
            try memory.insert(
                GuestMemory.Region(
                    guestAddress: GuestAddress(address), frontEndAddress: address,
                    byteCount: UInt64(byteCount)), mapping: mapping)
        }
        self.bases = bases
        guest = guest_create(one.isPacked, one.shape, bases)
    }

    deinit { guest_destroy(guest) }

    func area(_ offset: Int) -> UnsafeMutableRawPointer? { bases[0].map { $0 + offset } }
    func address(_ offset: Int) -> GuestAddress {
        GuestAddress(guest_region_address(0) + UInt64(offset))
    }
}
