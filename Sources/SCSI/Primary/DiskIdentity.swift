// SPDX-License-Identifier: Apache-2.0

/// How a disk introduces itself to initiators, which recognise it by this wherever they meet it.
public struct DiskIdentity: Equatable, Sendable {
    /// At most 8 printable ASCII characters.
    public var vendor = "VHOSTD"
    /// At most 16 printable ASCII characters.
    public var product = "Disk"
    /// At most 4 printable ASCII characters.
    public var revision = "1"
    /// The unit serial number, printable ASCII.
    public var serial = ""
    /// The world wide name: a designator of type NAA, 8 or 16 bytes.
    public var worldWideName: [UInt8] = []

    public init() {}

    /// A disk whose serial number and world wide name follow from a name, so that they are the
    /// same after each start.
    ///
    /// - Parameter name: what makes the disk unique, say its path.
    public init(stableFrom name: String) {
        // FNV-1a, 64 bits, over the name.
        let hash = name.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { hash, byte in
            (hash ^ UInt64(byte)) &* 0x100_0000_01B3
        }
        let digits = String(hash, radix: 16)
        serial = String(repeating: "0", count: 16 - digits.count) + digits
        // NAA 3h: locally assigned, 60 bits.
        worldWideName.appendBigEndian(hash & 0x0FFF_FFFF_FFFF_FFFF | 0x3 << 60)
    }
}
