// SPDX-License-Identifier: Apache-2.0

/// A stretch of guest memory that one descriptor names.
public struct Segment: Hashable, Sendable {
    public var address: UInt64
    public var byteCount: UInt32

    public init(at address: UInt64, byteCount: Int) {
        self.address = address
        self.byteCount = UInt32(byteCount)
    }
}

/// A buffer that a driver offers: what the device may read, then what it may write.
public struct Chain: Hashable, Sendable {
    /// Where the descriptors of a chain stand.
    public enum Placement: Hashable, Sendable {
        /// In the ring (packed) or in the descriptor table (split).
        case direct
        /// In a table of their own.
        case indirect
        /// The first ones in the ring, the others in a table of their own (split alone).
        case mixed(direct: Int)
    }

    public var readable: [Segment]
    public var writable: [Segment]
    public var placement: Placement

    public init(
        readable: [Segment] = [], writable: [Segment] = [], placement: Placement = .direct
    ) {
        self.readable = readable
        self.writable = writable
        self.placement = placement
    }

    /// Bytes that the device may read.
    public var readableLength: UInt64 { readable.reduce(0) { $0 + UInt64($1.byteCount) } }
    /// Bytes that the device may write.
    public var writableLength: UInt64 { writable.reduce(0) { $0 + UInt64($1.byteCount) } }
    /// Segments.
    public var segmentCount: Int { readable.count + writable.count }

    /// Descriptors that the chain takes up in the ring.
    public var ringDescriptorCount: Int {
        switch placement {
        case .direct: segmentCount
        case .indirect: 1
        case .mixed(let direct): direct + 1
        }
    }

    /// The chain as descriptors, each linked to the next with VIRTQ_DESC_F_NEXT.
    func descriptors() -> [RawDescriptor] {
        let last = segmentCount - 1
        return (0...last).map { position in
            let isReadable = position < readable.count
            let segment = isReadable ? readable[position] : writable[position - readable.count]
            return RawDescriptor(
                address: segment.address, length: segment.byteCount,
                flags: (isReadable ? 0 : RawDescriptor.write)
                    | (position < last ? RawDescriptor.next : 0))
        }
    }
}

/// A descriptor with whatever in it.
public struct RawDescriptor: Hashable, Sendable {
    /// VIRTQ_DESC_F_NEXT.
    public static let next: UInt16 = 1
    /// VIRTQ_DESC_F_WRITE.
    public static let write: UInt16 = 2
    /// VIRTQ_DESC_F_INDIRECT.
    public static let indirect: UInt16 = 4

    public var address: UInt64
    public var length: UInt32
    public var flags: UInt16
    /// Split: the next descriptor's index; nil for that of the descriptor that follows in the list.
    ///
    /// Packed: the buffer id; nil for that of the buffer.
    public var link: UInt16?

    public init(
        address: UInt64 = 0, length: UInt32 = 0, flags: UInt16 = 0, link: UInt16? = nil
    ) {
        self.address = address
        self.length = length
        self.flags = flags
        self.link = link
    }
}
