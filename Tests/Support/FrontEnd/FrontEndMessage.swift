// SPDX-License-Identifier: Apache-2.0

public import Driver

/// A message to the back-end, whatever it says.
public struct FrontEndMessage: Sendable {
    public var request: UInt32
    public var payload: [UInt8]
    /// Borrowed: whoever made the message keeps them open until it is sent.
    public var descriptors: [Int32]

    public init(_ request: UInt32, payload: [UInt8] = [], descriptors: [Int32] = []) {
        self.request = request
        self.payload = payload
        self.descriptors = descriptors
    }

    /// Header and payload.
    public func bytes(flags: UInt32) -> [UInt8] {
        Self.bytes(request) + Self.bytes(flags) + Self.bytes(UInt32(payload.count)) + payload
    }

    /// The bytes of an integer, in the order of a little-endian host.
    public static func bytes<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
        (0..<Value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    /// The integer in some bytes.
    public static func integer<Value: FixedWidthInteger>(
        _ bytes: some Collection<UInt8>, as type: Value.Type = Value.self
    ) -> Value {
        bytes.reversed().reduce(Value.zero) { $0 << 8 | Value(truncatingIfNeeded: $1) }
    }
}

// MARK: Every message by name

extension FrontEndMessage {
    private static func integer(_ request: UInt32, _ value: UInt64) -> FrontEndMessage {
        FrontEndMessage(request, payload: bytes(value))
    }

    private static func ring(_ request: UInt32, _ index: Int, _ number: UInt32) -> FrontEndMessage {
        FrontEndMessage(request, payload: bytes(UInt32(index)) + bytes(number))
    }

    private static func descriptor(
        _ request: UInt32, _ index: Int, _ descriptor: Int32?
    ) -> FrontEndMessage {
        let value = UInt64(index) | (descriptor == nil ? 0x100 : 0)
        return FrontEndMessage(
            request, payload: bytes(value), descriptors: descriptor.map { [$0] } ?? [])
    }

    public static let getFeatures = FrontEndMessage(MessageType.getFeatures)
    public static func setFeatures(_ features: UInt64) -> FrontEndMessage {
        integer(MessageType.setFeatures, features)
    }
    public static let setOwner = FrontEndMessage(MessageType.setOwner)
    public static let resetOwner = FrontEndMessage(MessageType.resetOwner)
    public static let getProtocolFeatures = FrontEndMessage(MessageType.getProtocolFeatures)
    public static func setProtocolFeatures(_ features: UInt64) -> FrontEndMessage {
        integer(MessageType.setProtocolFeatures, features)
    }
    public static let getQueueCount = FrontEndMessage(MessageType.getQueueCount)
    public static let resetDevice = FrontEndMessage(MessageType.resetDevice)
    public static let getMemorySlotCount = FrontEndMessage(MessageType.getMemorySlotCount)

    public static func setRingSize(_ index: Int, _ size: UInt32) -> FrontEndMessage {
        ring(MessageType.setRingSize, index, size)
    }
    public static func setRingBase(_ index: Int, _ base: UInt32) -> FrontEndMessage {
        ring(MessageType.setRingBase, index, base)
    }
    public static func getRingBase(_ index: Int) -> FrontEndMessage {
        ring(MessageType.getRingBase, index, 0)
    }
    public static func setRingEnable(_ index: Int, _ isEnabled: Bool) -> FrontEndMessage {
        ring(MessageType.setRingEnable, index, isEnabled ? 1 : 0)
    }

    /// Without a descriptor, the message says so.
    public static func setRingKick(_ index: Int, _ kick: Int32?) -> FrontEndMessage {
        descriptor(MessageType.setRingKick, index, kick)
    }
    public static func setRingCall(_ index: Int, _ call: Int32?) -> FrontEndMessage {
        descriptor(MessageType.setRingCall, index, call)
    }
    public static func setRingError(_ index: Int, _ error: Int32?) -> FrontEndMessage {
        descriptor(MessageType.setRingError, index, error)
    }

    public static func setRingAddresses(
        _ index: Int, flags: UInt32 = 0, descriptors: UInt64, used: UInt64, available: UInt64,
        log: UInt64 = 0
    ) -> FrontEndMessage {
        let addresses = [descriptors, used, available, log].flatMap { bytes($0) }
        return FrontEndMessage(
            MessageType.setRingAddresses,
            payload: bytes(UInt32(index)) + bytes(flags) + addresses)
    }

    public static func setBackEndChannel(_ descriptor: Int32) -> FrontEndMessage {
        FrontEndMessage(MessageType.setBackEndChannel, descriptors: [descriptor])
    }

    /// Asks for `count` bytes at `offset`; room for them is in the request.
    public static func getConfiguration(
        offset: UInt32, count: UInt32, flags: UInt32 = 0
    ) -> FrontEndMessage {
        FrontEndMessage(
            MessageType.getConfiguration,
            payload: bytes(offset) + bytes(count) + bytes(flags)
                + [UInt8](repeating: 0, count: Int(min(count, 4096 - 12))))
    }

    public static func setConfiguration(
        offset: UInt32, _ data: [UInt8], flags: UInt32 = 0
    ) -> FrontEndMessage {
        FrontEndMessage(
            MessageType.setConfiguration,
            payload: bytes(offset) + bytes(UInt32(data.count)) + bytes(flags) + data)
    }

    // MARK: Memory

    /// A dirty log of `byteCount` bytes at `offset` of a file.
    public static func setLogBase(
        byteCount: UInt64, offset: UInt64, descriptor: Int32
    ) -> FrontEndMessage {
        FrontEndMessage(
            MessageType.setLogBase, payload: bytes(byteCount) + bytes(offset),
            descriptors: [descriptor])
    }

    private static func region(_ region: TestMemory.Region) -> [UInt8] {
        [region.guestAddress, region.byteCount, region.frontEndAddress, region.fileOffset]
            .flatMap { bytes($0) }
    }

    /// The whole memory as a table, whose payload has room for `roomFor` regions if there are
    /// fewer.
    public static func setMemoryTable(
        _ memory: TestMemory, roomFor: Int = 0
    ) -> FrontEndMessage {
        let regions = memory.regions
        let tail = max(0, roomFor - regions.count) * 32
        return FrontEndMessage(
            MessageType.setMemoryTable,
            payload: bytes(UInt32(regions.count)) + bytes(UInt32(0))
                + regions.flatMap { region($0) } + [UInt8](repeating: 0, count: tail),
            descriptors: regions.indices.map { memory.rawDescriptor(ofRegion: $0) })
    }

    /// One region of the memory.
    public static func addMemoryRegion(_ memory: TestMemory, _ index: Int) -> FrontEndMessage {
        FrontEndMessage(
            MessageType.addMemoryRegion,
            payload: bytes(UInt64(0)) + region(memory.regions[index]),
            descriptors: [memory.rawDescriptor(ofRegion: index)])
    }

    public static func removeMemoryRegion(
        _ region: TestMemory.Region, descriptors: [Int32] = []
    ) -> FrontEndMessage {
        FrontEndMessage(
            MessageType.removeMemoryRegion, payload: bytes(UInt64(0)) + self.region(region),
            descriptors: descriptors)
    }
}
