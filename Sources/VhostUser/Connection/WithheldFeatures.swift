// SPDX-License-Identifier: Apache-2.0

public import Virtio

/// Features that are not offered although they could be.
public struct WithheldFeatures: Equatable, Sendable {
    /// Feature bits of the device and its rings.
    public var device: VirtioFeatures
    /// Features of the protocol.
    public var transport: ProtocolFeatures

    public init(device: VirtioFeatures = [], transport: ProtocolFeatures = []) {
        self.device = device
        self.transport = transport
    }

    /// What can be withheld of any device, by name, in the order in which help lists it.
    ///
    /// Features of one kind of device have names in that device's module.
    public static let names: [(name: String, features: WithheldFeatures)] = [
        ("packed", WithheldFeatures(device: .ringPacked)),
        ("event-idx", WithheldFeatures(device: .eventIndex)),
        ("indirect", WithheldFeatures(device: .indirectDescriptors)),
        ("in-order", WithheldFeatures(device: .inOrder)),
        ("version-1", WithheldFeatures(device: .version1)),
        ("log-all", WithheldFeatures(device: .logAll)),
        ("protocol-features", WithheldFeatures(device: .protocolFeatures)),
        ("mq", WithheldFeatures(transport: .multiqueue)),
        ("log-shmfd", WithheldFeatures(transport: .sharedLog)),
        ("reply-ack", WithheldFeatures(transport: .replyAcknowledgement)),
        ("backend-req", WithheldFeatures(transport: .backEndRequests)),
        ("config", WithheldFeatures(transport: .configuration)),
        ("reset-device", WithheldFeatures(transport: .resetDevice)),
        ("mem-slots", WithheldFeatures(transport: .memorySlots)),
    ]

    /// What a name stands for; nil when there is no such name.
    public init?(name: String) {
        guard let row = Self.names.first(where: { $0.name == name }) else { return nil }
        self = row.features
    }

    /// Withholds more.
    public mutating func formUnion(_ more: WithheldFeatures) {
        device.formUnion(more.device)
        transport.formUnion(more.transport)
    }
}
