// SPDX-License-Identifier: Apache-2.0

public import LinuxIO
import Synchronization
public import SystemPackage
public import Virtio

/// The guest's memory, from the guest's side: regions of memory files, with holes or without.
///
/// Any thread may use it.
public final class TestMemory: Sendable {
    /// One region, as the guest and as the front-end see it.
    public struct Region: Hashable, Sendable {
        /// Where the region starts in the guest's physical memory.
        public var guestAddress: UInt64
        /// Bytes.
        public var byteCount: UInt64
        /// Where the region starts in the address space of the front-end.
        public var frontEndAddress: UInt64
        /// Where the region starts in its file.
        ///
        /// The bytes of the file before it, and as many behind it, belong to nobody: they hold a
        /// canary.
        public var fileOffset: UInt64

        /// A region; without `frontEndAddress`, at one that no guest address looks like.
        public init(
            at guestAddress: UInt64, byteCount: UInt64, frontEndAddress: UInt64? = nil,
            fileOffset: UInt64 = 0
        ) {
            self.guestAddress = guestAddress
            self.byteCount = byteCount
            self.frontEndAddress =
                frontEndAddress ?? 0x7E00_0000_0000 + (guestAddress & 0xFF_FFFF_FFFF)
            self.fileOffset = fileOffset
        }

        /// The first address behind the region.
        public var endAddress: UInt64 { guestAddress &+ byteCount }
    }

    /// The regions, in the order in which they were given.
    public let regions: [Region]
    private let files: [MemoryFile]
    let allocator: Mutex<Allocator>

    /// What stands in the bytes of a file that belong to no region.
    static let canary: UInt8 = 0xA5

    /// Memory in regions; each has a file of its own.
    public init(_ regions: [Region]) throws(Errno) {
        self.regions = regions
        var files: [MemoryFile] = []
        for region in regions { files.append(try MemoryFile(region)) }
        self.files = files
        allocator = Mutex(Allocator(regions))
    }

    /// Memory in one region.
    public convenience init(
        byteCount: UInt64 = 16 << 20, at guestAddress: UInt64 = 0x10_0000, fileOffset: UInt64 = 0
    ) throws(Errno) {
        try self.init([
            Region(at: guestAddress, byteCount: byteCount, fileOffset: fileOffset)
        ])
    }

    /// The bytes of a region, mapped for the driver.
    public func area(ofRegion index: Int) -> SharedArea { files[index].region }

    /// A stretch of memory that lies in one region; nil when it does not.
    public func areaIfPresent(at address: UInt64, byteCount: Int) -> SharedArea? {
        for index in regions.indices {
            let region = regions[index]
            guard address >= region.guestAddress, address - region.guestAddress <= region.byteCount
            else { continue }
            let offset = address - region.guestAddress
            guard UInt64(byteCount) <= region.byteCount - offset else { continue }
            return files[index].region.part(at: Int(offset), byteCount: byteCount)
        }
        return nil
    }

    /// A stretch of memory that lies in one region.
    public func area(at address: UInt64, byteCount: Int) -> SharedArea {
        guard let area = areaIfPresent(at: address, byteCount: byteCount) else {
            preconditionFailure("\(byteCount) bytes at \(address) lie in no region")
        }
        return area
    }

    /// The front-end's address of a guest address, as SET_VRING_ADDR wants it.
    public func frontEndAddress(of address: UInt64) -> UInt64 {
        for region in regions
        where address >= region.guestAddress && address - region.guestAddress < region.byteCount {
            return region.frontEndAddress &+ (address - region.guestAddress)
        }
        preconditionFailure("\(address) lies in no region")
    }

    /// The descriptor of a region's file; stays this object's.
    public func rawDescriptor(ofRegion index: Int) -> Int32 { files[index].descriptor.rawValue }

    /// A descriptor of a region's file, for who wants to own one.
    public func duplicateDescriptor(ofRegion index: Int) throws(Errno) -> OwnedDescriptor {
        try files[index].descriptor.duplicate()
    }

    /// The memory as the device sees it: every region, mapped a second time.
    public func deviceMemory() throws -> GuestMemory {
        let memory = GuestMemory()
        for index in regions.indices { try insert(region: index, into: memory) }
        return memory
    }

    /// Maps one region for the device.
    public func insert(region index: Int, into memory: GuestMemory) throws {
        let region = regions[index]
        let mapping = try MappedRegion(
            files[index].descriptor, offset: region.fileOffset, byteCount: region.byteCount)
        try memory.insert(Self.deviceRegion(region), mapping: mapping)
    }

    /// A region in the words of the device.
    public static func deviceRegion(_ region: Region) -> GuestMemory.Region {
        GuestMemory.Region(
            guestAddress: GuestAddress(region.guestAddress),
            frontEndAddress: region.frontEndAddress, byteCount: region.byteCount)
    }

    /// Whether nobody wrote to the bytes of the files that belong to no region.
    public var canariesAreIntact: Bool {
        files.allSatisfy { file in
            [file.before, file.behind].allSatisfy { margin in
                margin.isFilled(with: Self.canary, at: 0, count: margin.byteCount)
            }
        }
    }
}

/// The file of one region, mapped whole.
private final class MemoryFile: Sendable {
    let descriptor: OwnedDescriptor
    private let mapping: Mapping
    let before: SharedArea
    let region: SharedArea
    let behind: SharedArea

    init(_ region: TestMemory.Region) throws(Errno) {
        let margin = Int(region.fileOffset)
        let byteCount = Int(region.byteCount)
        descriptor = try OwnedDescriptor.memoryFile(
            name: "guest", byteCount: byteCount + 2 * margin)
        mapping = Mapping(
            try MappedRegion(
                descriptor, offset: 0, byteCount: UInt64(byteCount + 2 * margin)))
        let whole = mapping.area
        before = whole.part(at: 0, byteCount: margin)
        self.region = whole.part(at: margin, byteCount: byteCount)
        behind = whole.part(at: margin + byteCount, byteCount: margin)
        before.fill(TestMemory.canary, at: 0, count: margin)
        behind.fill(TestMemory.canary, at: 0, count: margin)
    }
}

/// Keeps a mapping alive.
///
/// SAFETY: the mapping does not change, and what is in it is reached through `SharedArea` alone.
private final class Mapping: @unchecked Sendable {
    private let region: MappedRegion

    init(_ region: consuming MappedRegion) { self.region = region }

    var area: SharedArea {
        // SAFETY: the area is as long as the mapping; the memory that gives it keeps the mapping.
        unsafe SharedArea(base: region.base, byteCount: region.byteCount)
    }
}
