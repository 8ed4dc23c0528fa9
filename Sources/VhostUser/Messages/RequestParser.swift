// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Virtio

/// Turns messages into requests, or says what is wrong with them.
struct RequestParser {
    /// VHOST_USER_VRING_IDX_MASK.
    private static let ringIndexMask: UInt64 = 0xff
    /// VHOST_USER_VRING_NOFD_MASK.
    private static let noDescriptorFlag: UInt64 = 0x100
    /// Bytes of one region in a table.
    private static let regionByteCount = 32
    /// Bytes before the data of a configuration payload.
    private static let configurationHeaderByteCount = 12

    /// How many rings the device has.
    let ringCount: Int

    /// Checks a message's form and takes its fields out.
    ///
    /// - Parameters:
    ///   - message: whatever came.
    ///   - negotiated: the protocol features so far, which some requests need.
    /// - Returns: the request, its sizes, counts and ring index checked.
    /// - Throws: the first thing that is wrong.
    func parse(
        _ message: Message, negotiated: ProtocolFeatures
    ) throws(VhostUserError) -> Request {
        let number = message.header.request
        guard let code = RequestCode(rawValue: number), let form = code.form else {
            throw .unknownRequest(number)
        }
        guard negotiated.isSuperset(of: form.gate) else { throw .notNegotiated(code) }
        guard form.payload.allows(byteCount: message.payload.count) else {
            throw .illegalSize(code, byteCount: message.payload.count)
        }
        if let allowed = form.descriptorCount, !allowed.contains(message.descriptors.count) {
            throw .illegalDescriptorCount(code, count: message.descriptors.count)
        }
        switch form.payload {
        case .none: return try bare(code)
        case .integer: return try integer(code, message)
        case .ringValue: return try ringValue(code, message)
        case .ringAddresses: return try ringAddresses(message)
        case .logArea: return .setLogBase(logArea(message))
        case .memoryTable: return .setMemoryTable(try memoryTable(message))
        case .memoryRegion: return try memoryRegion(code, message)
        case .configuration: return try configuration(code, message)
        }
    }

    private func bare(_ code: RequestCode) throws(VhostUserError) -> Request {
        switch code {
        case .getFeatures: .getFeatures
        case .setOwner: .setOwner
        case .resetOwner: .resetOwner
        case .getProtocolFeatures: .getProtocolFeatures
        case .getQueueCount: .getQueueCount
        case .setBackEndChannel: .setBackEndChannel
        case .resetDevice: .resetDevice
        case .getMemorySlotCount: .getMemorySlotCount
        default: throw .unknownRequest(code.rawValue)
        }
    }

    private func integer(
        _ code: RequestCode, _ message: Message
    ) throws(VhostUserError) -> Request {
        var reader = PayloadReader(message.payload)
        let value = reader.readUInt64()
        switch code {
        case .setFeatures: return .setFeatures(VirtioFeatures(rawValue: value))
        case .setProtocolFeatures:
            return .setProtocolFeatures(ProtocolFeatures(rawValue: value))
        case .setRingKick: return .setRingKick(try ringDescriptor(value, code, message))
        case .setRingCall: return .setRingCall(try ringDescriptor(value, code, message))
        case .setRingError: return .setRingError(try ringDescriptor(value, code, message))
        default: throw .unknownRequest(code.rawValue)
        }
    }

    private func ringDescriptor(
        _ value: UInt64, _ code: RequestCode, _ message: Message
    ) throws(VhostUserError) -> RingDescriptor {
        guard value & ~(Self.ringIndexMask | Self.noDescriptorFlag) == 0 else {
            throw .reservedBits(code, value)
        }
        let index = try ringIndex(value & Self.ringIndexMask)
        let hasDescriptor = value & Self.noDescriptorFlag == 0
        guard message.descriptors.count == (hasDescriptor ? 1 : 0) else {
            throw .illegalDescriptorCount(code, count: message.descriptors.count)
        }
        return RingDescriptor(index: index, hasDescriptor: hasDescriptor)
    }

    private func ringIndex(_ index: UInt64) throws(VhostUserError) -> Int {
        guard index < UInt64(ringCount) else {
            throw .noSuchRing(index: index, count: ringCount)
        }
        return Int(index)
    }

    private func ringValue(
        _ code: RequestCode, _ message: Message
    ) throws(VhostUserError) -> Request {
        var reader = PayloadReader(message.payload)
        let index = try ringIndex(UInt64(reader.readUInt32()))
        let number = reader.readUInt32()
        switch code {
        case .setRingSize: return .setRingSize(RingValue(index: index, number: number))
        case .setRingBase: return .setRingBase(RingValue(index: index, number: number))
        case .getRingBase: return .getRingBase(index: index)
        case .setRingEnable:
            guard number <= 1 else { throw .reservedBits(code, UInt64(number)) }
            return .setRingEnable(index: index, number == 1)
        default: throw .unknownRequest(code.rawValue)
        }
    }

    private func ringAddresses(_ message: Message) throws(VhostUserError) -> Request {
        var reader = PayloadReader(message.payload)
        let index = try ringIndex(UInt64(reader.readUInt32()))
        let flags = reader.readUInt32()
        guard flags & ~RingAddresses.logFlag == 0 else {
            throw .reservedBits(.setRingAddresses, UInt64(flags))
        }
        let addresses = RingAddresses(
            logsRing: flags & RingAddresses.logFlag != 0, descriptorArea: reader.readUInt64(),
            deviceArea: reader.readUInt64(), driverArea: reader.readUInt64(),
            logAddress: reader.readUInt64())
        return .setRingAddresses(index: index, addresses)
    }

    private func logArea(_ message: Message) -> LogArea {
        var reader = PayloadReader(message.payload)
        return LogArea(byteCount: reader.readUInt64(), offset: reader.readUInt64())
    }

    /// A table may be followed by a tail: user-mode-linux always sends room for two regions.
    private func memoryTable(_ message: Message) throws(VhostUserError) -> [RegionDescription] {
        var reader = PayloadReader(message.payload)
        let count = reader.readUInt32()
        _ = reader.readUInt32()
        guard count <= UInt32(UnixSocket.maximumDescriptorCount) else {
            throw .tooManyRegions(count: count, limit: UnixSocket.maximumDescriptorCount)
        }
        guard reader.remainder.count >= Int(count) * Self.regionByteCount else {
            throw .illegalSize(.setMemoryTable, byteCount: message.payload.count)
        }
        guard message.descriptors.count == Int(count) else {
            throw .illegalDescriptorCount(.setMemoryTable, count: message.descriptors.count)
        }
        return (0..<count).map { _ in Self.region(&reader) }
    }

    private func memoryRegion(
        _ code: RequestCode, _ message: Message
    ) throws(VhostUserError) -> Request {
        var reader = PayloadReader(message.payload)
        _ = reader.readUInt64()
        let description = Self.region(&reader)
        switch code {
        case .addMemoryRegion: return .addMemoryRegion(description)
        case .removeMemoryRegion: return .removeMemoryRegion(description)
        default: throw .unknownRequest(code.rawValue)
        }
    }

    private static func region(_ reader: inout PayloadReader) -> RegionDescription {
        let guestAddress = GuestAddress(reader.readUInt64())
        let byteCount = reader.readUInt64()
        let frontEndAddress = reader.readUInt64()
        return RegionDescription(
            region: GuestMemory.Region(
                guestAddress: guestAddress, frontEndAddress: frontEndAddress,
                byteCount: byteCount),
            fileOffset: reader.readUInt64())
    }

    private func configuration(
        _ code: RequestCode, _ message: Message
    ) throws(VhostUserError) -> Request {
        var reader = PayloadReader(message.payload)
        let range = ConfigurationRange(
            offset: reader.readUInt32(), byteCount: reader.readUInt32(),
            flags: reader.readUInt32())
        let data = Array(reader.remainder)
        switch code {
        case .getConfiguration: return .getConfiguration(range)
        case .setConfiguration:
            guard data.count == Int(range.byteCount) else {
                throw .illegalSize(code, byteCount: message.payload.count)
            }
            return .setConfiguration(range, data)
        default: throw .unknownRequest(code.rawValue)
        }
    }
}
