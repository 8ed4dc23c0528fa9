// SPDX-License-Identifier: Apache-2.0

/// A device model: what stands behind a set of virtqueues.
///
/// A device belongs to one event loop's thread; every requirement is called on it. Who calls is the
/// transport (a vhost-user session); a device does not know it.
public protocol VirtioDevice: QueueHandler {
    /// What the device can do, ring features included. Does not change.
    var offeredFeatures: VirtioFeatures { get }

    /// The number of virtqueues, configured or not.
    var queueCount: Int { get }

    /// The device configuration space (virtio 1.3 §2.5) as it is now, from its first byte.
    func readConfiguration() -> [UInt8]

    /// The driver writes configuration. Returns false when a field is read-only or out of range;
    /// nothing is changed then.
    func writeConfiguration(_ bytes: [UInt8], at offset: Int) -> Bool

    /// The driver has chosen features, before any queue starts.
    func featuresNegotiated(_ features: VirtioFeatures)

    /// The driver has gone or starts anew (virtio 1.3 §2.4): forget everything that belongs to it.
    /// Every queue has been stopped before.
    func reset()

    /// Who serves a queue on another thread; nil when the device does so itself, on its own.
    ///
    /// Does not change while a transport knows the device. For a queue with a server the transport
    /// calls what `QueueHandler` names there, not here.
    func server(ofQueueAt index: Int) -> QueueServerAddress?
}

extension VirtioDevice {
    /// Every queue is served on the device's own thread.
    public func server(ofQueueAt index: Int) -> QueueServerAddress? { nil }
}
