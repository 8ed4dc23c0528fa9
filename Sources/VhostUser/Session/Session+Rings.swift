// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SystemPackage
import Virtio

extension Session {
    /// VHOST_USER_SET_VRING_NUM.
    func setRingSize(_ value: RingValue) throws(VhostUserError) -> Outcome {
        let ring = try idleRing(value.index)
        let isSplit = features.map { !$0.contains(.ringPacked) } ?? false
        guard (1...RingConfiguration.maximumSize).contains(value.number),
            !isSplit || value.number.nonzeroBitCount == 1
        else { throw .illegalRingSize(value.number) }
        ring.configuration.size = Int(value.number)
        return .done
    }

    /// VHOST_USER_SET_VRING_ADDR.
    ///
    /// Comes for a running ring, too, where nothing but its logging changes.
    func setRingAddresses(
        _ ring: Ring, _ addresses: RingAddresses
    ) throws(VhostUserError) -> Outcome {
        guard RingConfiguration.isAligned(addresses, deviceFeatures) else {
            throw .misalignedRing(index: ring.index)
        }
        if ring.isRunning, let present = ring.configuration.addresses,
            present.describesSameRing(as: addresses)
        {
            ring.configuration.addresses = addresses
            ring.setLogsRing(addresses.logsRing)
            return .done
        }
        try idleRing(ring.index).configuration.addresses = addresses
        // Kept all the same: memory may come later.
        if memory.isEmpty { throw .noSharedMemory }
        guard ring.configuration.size == nil || queueConfiguration(of: ring) != nil else {
            throw .ringOutsideMemory(index: ring.index)
        }
        startReadyRings()
        return .done
    }

    /// VHOST_USER_SET_VRING_BASE.
    func setRingBase(_ value: RingValue, _ exchange: Exchange) throws(VhostUserError) -> Outcome {
        let ring = try idleRing(value.index)
        if let size = ring.configuration.size,
            !RingConfiguration.isInRange(value.number, size: size, deviceFeatures)
        {
            throw .baseOutOfRange(value.number, size: size)
        }
        ring.configuration.base = value.number
        let fresh = RingConfiguration.freshBase(deviceFeatures)
        guard let stoppedBase = ring.stoppedBase, stoppedBase != fresh,
            ring.configuration.isFresh(deviceFeatures)
        else { return .done }
        // A ring that had moved on begins again: the driver was reset, and the front-end has no
        // message to say so (QEMU 7.2 with a vsock device, user-mode-linux, crosvm).
        return try quiesce(rings, limits: options.drainLimits.hurried, exchange) { [self] _ in
            forgetDriver()
            return .done
        }
    }

    /// VHOST_USER_GET_VRING_BASE: stops the ring, and answers when nothing of it is in flight.
    ///
    /// Whether it is enabled is remembered, and so is where it lies.
    func getRingBase(_ ring: Ring, _ exchange: Exchange) throws(VhostUserError) -> Outcome {
        ring.dropKick()
        ring.isStarted = false
        return try quiesce([ring], limits: options.drainLimits, exchange) { [self] _ in
            ring.dropNotifications()
            ring.stop()
            noteStop()
            var writer = PayloadWriter()
            writer.append(UInt32(ring.index))
            writer.append(
                ring.configuration.base ?? RingConfiguration.freshBase(deviceFeatures))
            return .reply(writer.bytes)
        }
    }

    /// VHOST_USER_SET_VRING_KICK.
    func setRingKick(
        _ kick: RingDescriptor, _ descriptors: ReceivedDescriptors
    ) throws(VhostUserError) -> Outcome {
        let ring = rings[kick.index]
        if kick.hasDescriptor {
            try using(descriptors, of: .setRingKick) { descriptor throws(Errno) in
                try ring.setKick(descriptor)
            }
        } else {
            ring.setPolled()
            ring.isStarted = true
        }
        if options.resumesWithoutKick, ring.configuration.base != nil,
            !ring.configuration.isFresh(deviceFeatures)
        {
            ring.isStarted = true
        }
        startReadyRings()
        return .done
    }

    /// VHOST_USER_SET_VRING_CALL.
    func setRingCall(
        _ call: RingDescriptor, _ descriptors: ReceivedDescriptors
    ) throws(VhostUserError) -> Outcome {
        let ring = rings[call.index]
        try using(descriptors, of: .setRingCall) { descriptor throws(Errno) in
            try ring.setCall(descriptor)
        } orNone: { () throws(Errno) in
            try ring.setCall(nil)
        }
        return .done
    }

    /// VHOST_USER_SET_VRING_ERR.
    func setRingError(
        _ error: RingDescriptor, _ descriptors: ReceivedDescriptors
    ) throws(VhostUserError) -> Outcome {
        let ring = rings[error.index]
        try using(descriptors, of: .setRingError) { descriptor throws(Errno) in
            try ring.setError(descriptor)
        } orNone: { () throws(Errno) in
            try ring.setError(nil)
        }
        return .done
    }

    /// Hands over the one descriptor of a message, whose count has been checked.
    private func using(
        _ descriptors: ReceivedDescriptors, of code: RequestCode,
        _ body: (consuming OwnedDescriptor) throws(Errno) -> Void,
        orNone none: () throws(Errno) -> Void = { () throws(Errno) in }
    ) throws(VhostUserError) {
        do throws(Errno) {
            if let descriptor = descriptors.take() {
                try body(descriptor)
            } else {
                try none()
            }
        } catch {
            throw .unusableDescriptor(code, error)
        }
    }

    /// VHOST_USER_SET_VRING_ENABLE.
    ///
    /// Disabling is acknowledged when nothing of the ring is in flight: Cloud Hypervisor pauses a
    /// guest in this way, and saves its memory then.
    func setRingEnable(
        _ ring: Ring, _ isEnabled: Bool, _ exchange: Exchange
    ) throws(VhostUserError) -> Outcome {
        guard hasProtocolFeatures || features?.contains(.protocolFeatures) ?? false else {
            throw .enableWithoutProtocolFeatures
        }
        ring.isEnabled = isEnabled
        if isEnabled {
            startReadyRings()
            return .done
        }
        return try quiesce([ring], limits: options.drainLimits, exchange) { [self] _ in
            noteStop()
            return .done
        }
    }
}

// MARK: Starting

extension Session: RingHandler {
    /// Whether any ring has a queue.
    var isRunning: Bool { rings.contains(where: \.isRunning) }

    /// A ring that may be configured.
    ///
    /// One that ran and is disabled, or is broken, counts as stopped from then on.
    private func idleRing(_ index: Int) throws(VhostUserError) -> Ring {
        let ring = rings[index]
        guard !ring.isRunning else { throw .ringRuns(index: index) }
        if ring.hasRun || ring.isBroken { ring.stop() }
        return ring
    }

    private func queueConfiguration(of ring: Ring) -> VirtqueueConfiguration? {
        ring.configuration.queueConfiguration(deviceFeatures, memory: memory.guestMemory)
    }

    /// Starts every ring that lacks nothing.
    func startReadyRings() {
        guard drain == nil, !isEnding, features != nil else { return }
        for ring in rings where !ring.isRunning && ring.isStarted && ring.isEnabled {
            start(ring)
        }
        if owesConfigurationChange, isRunning { configurationChanged() }
    }

    private func start(_ ring: Ring) {
        guard !ring.isBroken, ring.configuration.size != nil, ring.configuration.addresses != nil
        else { return }
        guard let configuration = queueConfiguration(of: ring) else {
            // One that ran is no loss before its driver kicks it again.
            if !ring.hasRun { reportUnmapped(ring) }
            return
        }
        if !isRunning { guestStarts() }
        do throws(VirtqueueError) {
            let queue = try Virtqueue(
                configuration, memory: ring.queueMemory(memory.guestMemory), notifier: ring.call)
            if announcedFeatures != deviceFeatures {
                announcedFeatures = deviceFeatures
                device.featuresNegotiated(deviceFeatures)
            }
            let isResumed = !ring.hasRun && !ring.configuration.isFresh(deviceFeatures)
            ring.run(queue, memory: memory.guestMemory, owesSignal: isResumed)
        } catch {
            ring.breaks(error)
        }
    }

    /// The ring waits until memory comes that it lies in.
    private func reportUnmapped(_ ring: Ring) {
        ring.signalError()
        guard ring.logGate.opens(at: loop.now) else { return }
        let reason: VhostUserError =
            memory.isEmpty ? .noSharedMemory : .ringOutsideMemory(index: ring.index)
        logger.error("ring cannot start", metadata: ["error": "\(reason)"])
    }

    func ringKicked(_ ring: Ring) {
        ring.isStarted = true
        startReadyRings()
        if ring.hasRun && ring.isEnabled && !ring.isRunning && drain == nil && !ring.isBroken {
            reportUnmapped(ring)
        }
    }

    func ringBroke(_ ring: Ring, _ error: VirtqueueError) {
        guard ring.logGate.opens(at: loop.now) else { return }
        logger.notice(
            "driver broke a ring", metadata: ["ring": "\(ring.index)", "error": "\(error)"])
    }
}
