// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Hands out guest memory: from the start of a region up, or what was freed before.
struct Allocator {
    private struct Class: Hashable {
        let byteCount: UInt64
        let alignment: UInt64
        let region: Int
    }

    private let regions: [TestMemory.Region]
    private var next: [UInt64]
    private var freed: [Class: [UInt64]] = [:]
    private var allocated: [UInt64: Class] = [:]

    init(_ regions: [TestMemory.Region]) {
        self.regions = regions
        next = regions.map(\.guestAddress)
    }

    mutating func allocate(_ byteCount: UInt64, alignment: UInt64, region: Int) -> UInt64 {
        let rounded = (byteCount + 15) / 16 * 16
        let wanted = Class(byteCount: rounded, alignment: alignment, region: region)
        let address = freed[wanted]?.popLast() ?? bump(wanted)
        allocated[address] = wanted
        return address
    }

    private mutating func bump(_ wanted: Class) -> UInt64 {
        let mask = wanted.alignment - 1
        let address = (next[wanted.region] + mask) & ~mask
        precondition(
            address + wanted.byteCount <= regions[wanted.region].endAddress,
            "region \(wanted.region) of the test memory is large enough")
        // A segment of no bytes has an address of its own, too.
        next[wanted.region] = address + max(wanted.byteCount, 16)
        return address
    }

    mutating func free(_ address: UInt64) {
        guard let freedClass = allocated.removeValue(forKey: address) else {
            preconditionFailure("what is freed was allocated")
        }
        freed[freedClass, default: []].append(address)
    }
}

extension TestMemory {
    /// Guest memory that nobody uses.
    ///
    /// - Parameters:
    ///   - byteCount: the rest of the last sixteen bytes belongs to it, too.
    ///   - alignment: a power of two.
    ///   - region: an index into `regions`.
    /// - Returns: its address.
    public func allocate(byteCount: Int, alignment: UInt64 = 16, inRegion region: Int = 0) -> UInt64
    {
        allocator.withLock {
            $0.allocate(UInt64(byteCount), alignment: alignment, region: region)
        }
    }

    /// Gives memory back that `allocate` gave.
    public func free(_ address: UInt64) {
        allocator.withLock { $0.free(address) }
    }

    /// Gives every segment of a chain back.
    public func free(_ chain: Chain) {
        for segment in chain.readable + chain.writable { free(segment.address) }
    }
}
