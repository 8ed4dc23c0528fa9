// SPDX-License-Identifier: Apache-2.0

public import Driver
import LinuxIO

/// User-mode Linux (arch/um/drivers/virtio_uml.c).
public final class UserModeLinux: VMM {
    /// Calls come out here, a message at a time.
    public private(set) var callPipes: [Int: Pipe] = [:]
    /// What the back-end says of its own accord comes out here.
    public let channel: Pipe

    public init() throws {
        channel = try Pipe()
    }

    public let testDescription = "user-mode Linux"
    public let kickValue: UInt32 = 0

    public func connect(_ frontEnd: FrontEnd, ringCount: Int) throws {
        try frontEnd.send(.setOwner)
        let wanted =
            ProtocolFeatureBit.replyAcknowledgement | ProtocolFeatureBit.backEndRequests
            | ProtocolFeatureBit.configuration | ProtocolFeatureBit.inbandNotifications
        try negotiate(frontEnd, wanted: wanted, flags: FrontEnd.needReplyFlags)
        if frontEnd.protocolFeatures & ProtocolFeatureBit.backEndRequests != 0 {
            try frontEnd.require(.setBackEndChannel(channel.writingEnd.rawValue))
        }
    }

    public func start(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int
    ) throws {
        frontEnd.features = guestFeatures(rings) | FeatureBit.protocolFeatures
        try frontEnd.require(.setFeatures(frontEnd.features))
        try frontEnd.require(.setMemoryTable(memory, roomFor: 2))
        for ring in rings {
            let pipe = try Pipe()
            callPipes[ring.index] = pipe
            try frontEnd.require(.setRingCall(ring.index, pipe.writingEnd.rawValue))
            try frontEnd.require(ring.sizeMessage)
            try frontEnd.require(.setRingBase(ring.index, 0))
            try frontEnd.require(ring.addressMessage(log: .max))
        }
        for ring in rings {
            try frontEnd.require(ring.kickMessage)
            try frontEnd.require(.setRingEnable(ring.index, true))
        }
    }

    public func stop(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int
    ) throws {
        for ring in rings.reversed() {
            try frontEnd.require(.setRingEnable(ring.index, false))
        }
        try frontEnd.synchronize()
    }
}

/// SPDK's initiator (lib/virtio of SPDK, as bdevperf uses it).
public final class SPDKInitiator: VMM {
    public init() {}

    public let testDescription = "SPDK's initiator"
    public let kickValue: UInt32 = 0

    public func connect(_ frontEnd: FrontEnd, ringCount: Int) throws {
        try frontEnd.send(.setOwner)
        frontEnd.offeredFeatures = try frontEnd.ask(.getFeatures).integer
        // VERSION_1, EVENT_IDX, the protocol features, and two bits of virtio-scsi.
        let wanted =
            FeatureBit.version1 | FeatureBit.eventIndex | FeatureBit.protocolFeatures | 0x3
        frontEnd.features = frontEnd.offeredFeatures & wanted
        try frontEnd.send(.setFeatures(frontEnd.features))
        if frontEnd.features & FeatureBit.protocolFeatures != 0 {
            let wanted = ProtocolFeatureBit.multiqueue | ProtocolFeatureBit.configuration
            let chosen = try frontEnd.ask(.getProtocolFeatures).integer & wanted
            try frontEnd.send(.setProtocolFeatures(chosen))
            frontEnd.protocolFeatures = chosen
        }
        for index in 0..<ringCount { try frontEnd.send(.setRingEnable(index, true)) }
        _ = try frontEnd.ask(.getQueueCount)
    }

    public func start(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int
    ) throws {
        for ring in rings { try frontEnd.send(ring.callMessage) }
        try frontEnd.send(.setMemoryTable(memory))
        try frontEnd.synchronize()
        for ring in rings {
            try frontEnd.send(ring.sizeMessage)
            try frontEnd.send(.setRingBase(ring.index, 0))
            try frontEnd.send(ring.addressMessage())
            try frontEnd.send(ring.kickMessage)
        }
    }

    public func stop(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int
    ) throws {
        try keepBases(frontEnd, rings)
        try frontEnd.send(.setMemoryTable(memory))
        try frontEnd.synchronize()
    }
}

/// Cloud Hypervisor's generic vhost-user device.
public final class CloudHypervisor: VMM {
    private let channel: ChannelPair
    private var hasGivenChannel = false

    public init() throws {
        channel = try ChannelPair()
    }

    public let testDescription = "Cloud Hypervisor"
    public let kickValue: UInt32 = 0

    public func connect(_ frontEnd: FrontEnd, ringCount: Int) throws {
        try frontEnd.send(.setOwner)
        let wanted =
            ProtocolFeatureBit.configuration | ProtocolFeatureBit.multiqueue
            | ProtocolFeatureBit.memorySlots | ProtocolFeatureBit.replyAcknowledgement
            | ProtocolFeatureBit.inflight | ProtocolFeatureBit.backEndRequests
            | ProtocolFeatureBit.sharedLog
        try negotiate(frontEnd, wanted: wanted)
        _ = try frontEnd.ask(.getQueueCount)
    }

    public func start(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int
    ) throws {
        frontEnd.features = guestFeatures(rings) | FeatureBit.protocolFeatures
        try frontEnd.require(.setFeatures(frontEnd.features))
        try frontEnd.require(.setMemoryTable(memory))
        for ring in rings { try frontEnd.require(ring.sizeMessage) }
        for ring in rings {
            try frontEnd.require(ring.addressMessage())
            try frontEnd.require(ring.baseMessage)
            try frontEnd.require(ring.callMessage)
            try frontEnd.require(ring.kickMessage)
        }
        try enable(frontEnd, rings, true)
        if !hasGivenChannel { try channel.give(to: frontEnd, needReply: true) }
        hasGivenChannel = true
    }

    /// Pausing and going on are no more than this.
    public func enable(_ frontEnd: FrontEnd, _ rings: [GuestRing], _ isEnabled: Bool) throws {
        for ring in rings { try frontEnd.require(.setRingEnable(ring.index, isEnabled)) }
    }

    public func stop(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int
    ) throws {
        try enable(frontEnd, rings, false)
        try keepBases(frontEnd, rings)
    }
}

/// crosvm.
public final class Crosvm: VMM {
    private let channel: ChannelPair
    private var sentFeatures: UInt64?

    public init() throws {
        channel = try ChannelPair()
    }

    public let testDescription = "crosvm"
    public let kickValue: UInt32 = 0

    public func connect(_ frontEnd: FrontEnd, ringCount: Int) throws {
        try frontEnd.send(.setOwner)
        let wanted =
            ProtocolFeatureBit.configuration | ProtocolFeatureBit.multiqueue
            | ProtocolFeatureBit.backEndRequests | ProtocolFeatureBit.replyAcknowledgement
        try negotiate(frontEnd, wanted: wanted)
        try channel.give(to: frontEnd, needReply: false)
        _ = try frontEnd.ask(.getQueueCount)
    }

    public func start(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int
    ) throws {
        frontEnd.features = guestFeatures(rings) | FeatureBit.protocolFeatures
        if sentFeatures != frontEnd.features {
            try frontEnd.send(.setFeatures(frontEnd.features))
            sentFeatures = frontEnd.features
        }
        try frontEnd.send(.setMemoryTable(memory))
        for ring in rings {
            try frontEnd.send(ring.sizeMessage)
            try frontEnd.send(ring.addressMessage())
            try frontEnd.send(ring.baseMessage)
            try frontEnd.send(ring.callMessage)
            try frontEnd.send(ring.kickMessage)
            try frontEnd.send(.setRingEnable(ring.index, true))
        }
        try frontEnd.synchronize()
    }

    public func stop(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int
    ) throws {
        for ring in rings { try frontEnd.send(.setRingEnable(ring.index, false)) }
        try keepBases(frontEnd, rings)
    }
}
