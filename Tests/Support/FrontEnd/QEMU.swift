// SPDX-License-Identifier: Apache-2.0

public import Driver

/// QEMU, as its device models vhost-user-scsi and vhost-user-vsock speak.
public final class QEMU: VMM {
    /// Which QEMU.
    public enum Version: Int, CaseIterable, Sendable {
        /// 7.2.
        case seven = 7
        /// 10.0.
        case ten = 10
        /// 10.2 and later: wants an acknowledgement of descriptors, too.
        case tenTwo = 102
    }

    /// Which device model.
    public enum Model: String, CaseIterable, Sendable {
        case scsi
        case vsock
    }

    private let version: Version
    private let model: Model
    private var hasSentMemory = false
    private var spareCalls: [Signal] = []
    /// What the back-end says of its own accord comes out here.
    public let channel: ChannelPair
    /// Whether the acknowledged features hold VIRTIO_SCSI_F_CHANGE whatever was offered.
    private var unaskedFeatures: UInt64 { model == .scsi ? 1 << 2 : 0 }

    public init(_ version: Version, _ model: Model) throws {
        self.version = version
        self.model = model
        channel = try ChannelPair()
    }

    public var testDescription: String { "QEMU \(version) \(model)" }
    public let kickValue: UInt32 = 1

    public func connect(_ frontEnd: FrontEnd, ringCount: Int) throws {
        try negotiate(frontEnd, wanted: (1 << 17) - 1)
        guard frontEnd.offeredFeatures & FeatureBit.protocolFeatures != 0 else {
            throw FrontEndError.missingFeature(FeatureBit.protocolFeatures)
        }
        if frontEnd.protocolFeatures & ProtocolFeatureBit.multiqueue != 0 {
            _ = try frontEnd.ask(.getQueueCount)
        }
        if frontEnd.protocolFeatures & ProtocolFeatureBit.memorySlots != 0 {
            _ = try frontEnd.ask(.getMemorySlotCount)
        }
        if frontEnd.protocolFeatures & ProtocolFeatureBit.backEndRequests != 0 {
            try channel.give(to: frontEnd, needReply: true)
        }
        try frontEnd.send(.setOwner)
        try frontEnd.synchronize()
        for index in 0..<ringCount {
            let signal = try Signal()
            spareCalls.append(signal)
            try sendDescriptor(frontEnd, .setRingCall(index, signal.rawDescriptor))
            try sendDescriptor(frontEnd, .setRingError(index, signal.rawDescriptor))
        }
        if model == .vsock { try readGuestCID(frontEnd) }
        if model == .scsi || version != .seven { try reset(frontEnd) }
    }

    private func readGuestCID(_ frontEnd: FrontEnd) throws {
        guard frontEnd.protocolFeatures & ProtocolFeatureBit.configuration != 0 else {
            throw FrontEndError.missingFeature(ProtocolFeatureBit.configuration)
        }
        let reply = try frontEnd.ask(.getConfiguration(offset: 0, count: 8))
        guard reply.payload.count == 20 else {
            throw FrontEndError.noReply(to: MessageType.getConfiguration)
        }
    }

    /// What a reset of the guest adds to `stop`.
    public func reset(_ frontEnd: FrontEnd) throws {
        if frontEnd.protocolFeatures & ProtocolFeatureBit.resetDevice != 0 {
            try frontEnd.send(.resetDevice)
        }
    }

    private func sendDescriptor(_ frontEnd: FrontEnd, _ message: FrontEndMessage) throws {
        if version == .tenTwo {
            try frontEnd.require(message)
        } else {
            try frontEnd.send(message)
        }
    }

    public func start(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int
    ) throws {
        if model == .vsock { try sendCalls(frontEnd, rings) }
        frontEnd.features =
            guestFeatures(rings) | unaskedFeatures | FeatureBit.protocolFeatures
        try frontEnd.send(.setFeatures(frontEnd.features))
        if model == .scsi && version != .seven {
            try frontEnd.send(.setFeatures(frontEnd.features))
        }
        try sendMemory(frontEnd, memory)
        for ring in rings {
            try frontEnd.send(ring.sizeMessage)
            try frontEnd.send(ring.baseMessage)
            try frontEnd.send(ring.addressMessage())
            ring.kick.raise()
            try sendDescriptor(frontEnd, ring.kickMessage)
        }
        try enable(frontEnd, true, ringCount)
        try sendCalls(frontEnd, rings)
        try frontEnd.synchronize()
    }

    /// With memory slots, what the back-end has been told once is not told again.
    private func sendMemory(_ frontEnd: FrontEnd, _ memory: TestMemory) throws {
        guard frontEnd.protocolFeatures & ProtocolFeatureBit.memorySlots != 0 else {
            return try frontEnd.require(.setMemoryTable(memory))
        }
        if hasSentMemory { return }
        for index in memory.regions.indices {
            try frontEnd.require(.addMemoryRegion(memory, index))
        }
        hasSentMemory = true
    }

    private func enable(_ frontEnd: FrontEnd, _ isEnabled: Bool, _ ringCount: Int) throws {
        for index in 0..<ringCount {
            let message = FrontEndMessage.setRingEnable(index, isEnabled)
            if version == .seven {
                try frontEnd.send(message)
            } else {
                try frontEnd.require(message)
            }
        }
    }

    private func sendCalls(_ frontEnd: FrontEnd, _ rings: [GuestRing]) throws {
        for ring in rings { try sendDescriptor(frontEnd, ring.callMessage) }
    }

    public func stop(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int
    ) throws {
        try enable(frontEnd, false, ringCount)
        try keepBases(frontEnd, rings)
        if model == .vsock { try sendCalls(frontEnd, rings) }
    }
}
