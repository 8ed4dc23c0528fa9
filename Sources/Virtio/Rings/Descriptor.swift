// SPDX-License-Identifier: Apache-2.0

/// A descriptor as the buffer half of a queue sees it, whatever the ring format.
///
/// A private copy: the driver cannot change it any more. Laid out as in a packed ring, so that from
/// there it is moved with two loads and two stores.
struct Descriptor: BitwiseCopyable {
    /// In guest memory.
    let address: UInt64
    /// Bytes.
    let length: UInt32
    /// The buffer's id; counts in the last descriptor of a chain only.
    let id: UInt16
    /// `DescriptorFlags`; every other bit is noise.
    let flags: UInt16

    @inline(__always)
    init(address: UInt64, length: UInt32, id: UInt16, flags: UInt16) {
        self.address = address
        self.length = length
        self.id = id
        self.flags = flags
    }

    /// A descriptor of a packed ring.
    @inline(__always)
    init(address: UInt64, packed word: DescriptorWord) {
        self.init(address: address, length: word.length, id: word.third, flags: word.fourth)
    }

    /// Whether the chain goes on with the next descriptor of the batch.
    @inline(__always)
    var hasNext: Bool { flags & DescriptorFlags.next != 0 }
    /// Whether the device may write (otherwise it may read).
    @inline(__always)
    var isWritable: Bool { flags & DescriptorFlags.write != 0 }
    /// Whether it stood in an indirect table.
    @inline(__always)
    var isIndirect: Bool { flags & DescriptorFlags.indirect != 0 }
}

/// Flags of a descriptor; the same bits in both ring formats, on the wire and in a batch.
///
/// Every other bit is noise.
enum DescriptorFlags {
    /// VIRTQ_DESC_F_NEXT.
    static let next: UInt16 = 1
    /// VIRTQ_DESC_F_WRITE.
    static let write: UInt16 = 2
    /// VIRTQ_DESC_F_INDIRECT; in a batch, the descriptor stood in an indirect table.
    static let indirect: UInt16 = 4
}

/// A descriptor's second eight bytes, as both formats lay them out: length, then two fields.
struct DescriptorWord: BitwiseCopyable {
    let rawValue: UInt64

    @inline(__always)
    var length: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    /// Flags (split) or buffer id (packed).
    @inline(__always)
    var third: UInt16 { UInt16(truncatingIfNeeded: rawValue &>> 32) }
    /// Next (split) or flags (packed).
    @inline(__always)
    var fourth: UInt16 { UInt16(truncatingIfNeeded: rawValue &>> 48) }
}

extension SharedArea {
    /// The address of the descriptor at `index`.
    @inline(__always)
    func descriptorAddress(_ index: Int) -> UInt64 { load64(at: 16 &* index) }

    /// The rest of the descriptor at `index`: one load, so that its fields belong together.
    @inline(__always)
    func descriptorWord(_ index: Int) -> DescriptorWord {
        DescriptorWord(rawValue: load64(at: 16 &* index &+ 8))
    }
}
