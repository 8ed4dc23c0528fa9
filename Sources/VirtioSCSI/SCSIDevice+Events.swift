// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SCSI
import Virtio

/// Something that the driver is told by the event queue: struct virtio_scsi_event
/// (virtio 1.3 §5.6.6.3).
struct DeviceEvent: Equatable {
    static let byteCount = 16
    /// VIRTIO_SCSI_T_EVENTS_MISSED.
    static let missed: UInt32 = 0x8000_0000

    var type: UInt32
    var address: LUNAddress
    var reason: UInt32

    /// VIRTIO_SCSI_T_TRANSPORT_RESET, VIRTIO_SCSI_EVT_RESET_RESCAN.
    static func rescan(_ address: LUNAddress) -> DeviceEvent {
        DeviceEvent(type: 1, address: address, reason: 1)
    }

    /// VIRTIO_SCSI_T_TRANSPORT_RESET, VIRTIO_SCSI_EVT_RESET_REMOVED.
    static func removed(_ address: LUNAddress) -> DeviceEvent {
        DeviceEvent(type: 1, address: address, reason: 2)
    }

    /// VIRTIO_SCSI_T_PARAM_CHANGE.
    static func parameterChange(
        _ address: LUNAddress, _ sense: AdditionalSense
    ) -> DeviceEvent {
        DeviceEvent(
            type: 3, address: address, reason: UInt32(sense.code) | UInt32(sense.qualifier) << 8)
    }
}

/// Events for which the driver has had no buffer yet.
struct EventBacklog {
    /// Events that wait; more are lost, which the driver is told.
    private static let limit = 64

    private var waiting: [DeviceEvent] = []
    private var hasMissed = false

    var isEmpty: Bool { waiting.isEmpty && !hasMissed }

    mutating func append(_ event: DeviceEvent) {
        if waiting.count < Self.limit { waiting.append(event) } else { hasMissed = true }
    }

    /// Takes the oldest event off, which says whether some were lost.
    mutating func popFirst() -> DeviceEvent? {
        guard !isEmpty else { return nil }
        // VIRTIO_SCSI_T_NO_EVENT.
        let nothing = DeviceEvent(type: 0, address: LUNAddress(rawValue: 0), reason: 0)
        var event = waiting.isEmpty ? nothing : waiting.removeFirst()
        if hasMissed { event.type |= DeviceEvent.missed }
        hasMissed = false
        return event
    }
}

extension SCSIDevice: SCSIBusObserver {
    public func unitAttached(target: UInt8, lun: LUN) {
        post(.rescan(LUNAddress(target: target, lun: lun)), needs: .scsiHotPlug)
    }

    public func unitDetached(target: UInt8, lun: LUN) {
        post(.removed(LUNAddress(target: target, lun: lun)), needs: .scsiHotPlug)
    }

    public func unitChanged(target: UInt8, lun: LUN, _ sense: AdditionalSense) {
        post(.parameterChange(LUNAddress(target: target, lun: lun), sense), needs: .scsiChange)
    }

    private func post(_ event: DeviceEvent, needs feature: VirtioFeatures) {
        guard features.contains(feature) else { return }
        events.append(event)
        deliverEvents()
    }

    /// Writes the events that wait into the driver's buffers, as far as there are any.
    func deliverEvents() {
        guard let served = queues[Self.eventQueue], served.isServed else { return }
        served.queue.suppressNotifications()
        while !events.isEmpty && served.isServed {
            if deliverEvent(served) { continue }
            // Without a buffer: the driver says when it has one.
            if !served.isServed || !served.queue.requestNotifications() { return }
        }
    }

    /// Delivers the oldest event.
    ///
    /// - Returns: false when there is no buffer for it.
    private func deliverEvent(_ served: ServedQueue) -> Bool {
        var pieces = IOVectorArray(capacity: 1)
        do throws(VirtqueueError) {
            guard let buffer = try served.queue.take(&pieces) else { return false }
            guard buffer.writableLength >= UInt64(DeviceEvent.byteCount) else {
                put(buffer.id, writtenLength: 0, to: served)
                breakQueue(served, because: "an event buffer is too short")
                return false
            }
            guard let event = events.popFirst() else { return false }
            let slice = pieces.slice(buffer.writablePieces)
            slice.store(event.type.littleEndian)
            slice.store(event.address.rawValue.littleEndian, at: 4)
            slice.store(event.reason.littleEndian, at: 12)
            put(buffer.id, writtenLength: DeviceEvent.byteCount, to: served)
            return true
        } catch {
            breakQueue(served, because: "\(error)")
            return false
        }
    }
}
