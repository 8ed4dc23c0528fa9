// SPDX-License-Identifier: Apache-2.0

/// A packet as it stands in guest memory, byte by byte from virtio 1.3 §5.10.6.
struct Packet: Equatable {
    static let request: UInt16 = 1
    static let response: UInt16 = 2
    static let reset: UInt16 = 3
    static let shutdown: UInt16 = 4
    static let readWrite: UInt16 = 5
    static let creditUpdate: UInt16 = 6
    static let creditRequest: UInt16 = 7

    var sourceCID: UInt64 = 3
    var destinationCID: UInt64 = 2
    var sourcePort: UInt32 = 0
    var destinationPort: UInt32 = 0
    var type: UInt16 = 1
    var operation: UInt16 = 0
    var flags: UInt32 = 0
    var bufferAllocation: UInt32 = 0
    var forwardCount: UInt32 = 0
    var payload: [UInt8] = []
    /// What the header says of the payload; nil for the truth.
    var claimedLength: UInt32?

    init() {}

    /// Reads a packet; nil when there is no whole header.
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 44 else { return nil }
        func number(_ offset: Int, _ count: Int) -> UInt64 {
            bytes[offset..<offset + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
        sourceCID = number(0, 8)
        destinationCID = number(8, 8)
        sourcePort = UInt32(number(16, 4))
        destinationPort = UInt32(number(20, 4))
        claimedLength = UInt32(number(24, 4))
        type = UInt16(number(28, 2))
        operation = UInt16(number(30, 2))
        flags = UInt32(number(32, 4))
        bufferAllocation = UInt32(number(36, 4))
        forwardCount = UInt32(number(40, 4))
        payload = Array(bytes[44...])
    }

    /// The 44 bytes of the header.
    var header: [UInt8] {
        func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
            (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
        }
        return bytes(sourceCID) + bytes(destinationCID) + bytes(sourcePort)
            + bytes(destinationPort) + bytes(claimedLength ?? UInt32(payload.count)) + bytes(type)
            + bytes(operation) + bytes(flags) + bytes(bufferAllocation) + bytes(forwardCount)
    }
}
