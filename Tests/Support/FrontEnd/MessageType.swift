// SPDX-License-Identifier: Apache-2.0

/// The numbers of the messages that front-ends send (vhost-user, "Front-end message types").
public enum MessageType {
    public static let getFeatures: UInt32 = 1
    public static let setFeatures: UInt32 = 2
    public static let setOwner: UInt32 = 3
    public static let resetOwner: UInt32 = 4
    public static let setMemoryTable: UInt32 = 5
    public static let setLogBase: UInt32 = 6
    public static let setRingSize: UInt32 = 8
    public static let setRingAddresses: UInt32 = 9
    public static let setRingBase: UInt32 = 10
    public static let getRingBase: UInt32 = 11
    public static let setRingKick: UInt32 = 12
    public static let setRingCall: UInt32 = 13
    public static let setRingError: UInt32 = 14
    public static let getProtocolFeatures: UInt32 = 15
    public static let setProtocolFeatures: UInt32 = 16
    public static let getQueueCount: UInt32 = 17
    public static let setRingEnable: UInt32 = 18
    public static let setBackEndChannel: UInt32 = 21
    public static let getConfiguration: UInt32 = 24
    public static let setConfiguration: UInt32 = 25
    public static let resetDevice: UInt32 = 34
    public static let getMemorySlotCount: UInt32 = 36
    public static let addMemoryRegion: UInt32 = 37
    public static let removeMemoryRegion: UInt32 = 38
}

/// Feature bits, by their numbers in the specifications.
public enum FeatureBit {
    public static let logAll: UInt64 = 1 << 26
    public static let indirectDescriptors: UInt64 = 1 << 28
    public static let eventIndex: UInt64 = 1 << 29
    public static let protocolFeatures: UInt64 = 1 << 30
    public static let version1: UInt64 = 1 << 32
    public static let ringPacked: UInt64 = 1 << 34
    public static let inOrder: UInt64 = 1 << 35
}

/// Protocol feature bits (vhost-user, "Protocol features").
public enum ProtocolFeatureBit {
    public static let multiqueue: UInt64 = 1 << 0
    public static let sharedLog: UInt64 = 1 << 1
    public static let replyAcknowledgement: UInt64 = 1 << 3
    public static let backEndRequests: UInt64 = 1 << 5
    public static let configuration: UInt64 = 1 << 9
    public static let inflight: UInt64 = 1 << 12
    public static let resetDevice: UInt64 = 1 << 13
    public static let inbandNotifications: UInt64 = 1 << 14
    public static let memorySlots: UInt64 = 1 << 15
    public static let status: UInt64 = 1 << 16
}
