// SPDX-License-Identifier: Apache-2.0

/// Why a region was refused.
public enum GuestMemoryError: Error, Equatable, Sendable {
    /// The region is empty.
    case emptyRegion(GuestAddress)
    /// Start and size overflow 64 bits.
    case regionPastEndOfAddressSpace(GuestAddress, byteCount: UInt64)
    /// Start and size overflow 64 bits in the front-end's own address space.
    case frontEndAddressPastEnd(UInt64, byteCount: UInt64)
    /// The mapping holds fewer bytes than the region.
    case mappingTooShort(byteCount: UInt64, regionByteCount: UInt64)
    /// The region overlaps another one.
    case overlap(GuestAddress, with: GuestAddress)
    /// There are as many regions as there may be.
    case tooManyRegions(limit: Int)
}

extension GuestMemoryError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .emptyRegion(let address):
            "the memory region at \(address) is empty"
        case .regionPastEndOfAddressSpace(let address, let byteCount):
            "the memory region at \(address) of \(byteCount) bytes ends past the address space"
        case .frontEndAddressPastEnd(let address, let byteCount):
            "the memory region of \(byteCount) bytes at the front-end's address "
                + "0x\(String(address, radix: 16)) ends past its address space"
        case .mappingTooShort(let byteCount, let regionByteCount):
            "\(byteCount) bytes are mapped for a memory region of \(regionByteCount)"
        case .overlap(let address, let other):
            "the memory region at \(address) overlaps the one at \(other)"
        case .tooManyRegions(let limit):
            "there are more than \(limit) memory regions"
        }
    }
}
