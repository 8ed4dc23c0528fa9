// SPDX-License-Identifier: Apache-2.0

import Virtio

extension VirtioFeatures {
    /// Bits 0 to 23, whose meaning each kind of device has to itself (virtio 1.3 §2.2).
    static let deviceOwn = VirtioFeatures(rawValue: 0xff_ffff)

    /// Bits that change nothing here, so that a driver may set them without asking: QEMU passes
    /// some of them on whatever was offered.
    static let harmless: VirtioFeatures = [
        .notifyOnEmpty, .anyLayout, .protocolFeatures, .version1, .orderPlatform,
    ]
}

extension Session {
    /// The features that the device and its queues see.
    var deviceFeatures: VirtioFeatures {
        (features ?? []).intersection(offeredFeatures.union(.harmless))
            .subtracting([.protocolFeatures, .logAll])
    }

    /// VHOST_USER_SET_FEATURES.
    ///
    /// Sent again at every start, and to switch the dirty log on and off while rings run.
    func setFeatures(
        _ chosen: VirtioFeatures, _ exchange: Exchange
    ) throws(VhostUserError) -> Outcome {
        let unoffered = chosen.subtracting(offeredFeatures)
        let tolerable = VirtioFeatures.deviceOwn.subtracting(options.indispensable)
            .union(.harmless)
        guard tolerable.isSuperset(of: unoffered) else {
            throw .unofferedFeatures(unoffered.subtracting(tolerable))
        }
        if let features, isRunning,
            features.subtracting(.logAll) != chosen.subtracting(.logAll)
        {
            throw .featuresChangedWhileRunning
        }
        if chosen.contains(.logAll) { try checkLog(covers: memory.guestMemory.regions) }
        features = chosen
        if !chosen.contains(.protocolFeatures) {
            for ring in rings { ring.isEnabled = true }
        }
        let outcome = try switchLogging(exchange, .done)
        startReadyRings()
        return outcome
    }

    /// VHOST_USER_SET_PROTOCOL_FEATURES.
    ///
    /// They take effect at once: user-mode-linux waits for the acknowledgement of this message.
    func setProtocolFeatures(_ chosen: ProtocolFeatures) throws(VhostUserError) -> Outcome {
        guard offeredProtocolFeatures.isSuperset(of: chosen) else {
            throw .unofferedProtocolFeatures(chosen.subtracting(offeredProtocolFeatures))
        }
        protocolFeatures = chosen
        hasProtocolFeatures = true
        return .done
    }

    /// VHOST_USER_RESET_OWNER.
    ///
    /// Deprecated; QEMU sends it for want of RESET_DEVICE.
    func resetOwner(_ exchange: Exchange) throws(VhostUserError) -> Outcome {
        for ring in rings { ring.isEnabled = false }
        return try quiesce(rings, limits: options.drainLimits, exchange) { _ in .done }
    }

    /// VHOST_USER_RESET_DEVICE: the driver's part of the session ends, the connection's stays.
    func resetDevice(_ exchange: Exchange) throws(VhostUserError) -> Outcome {
        for ring in rings { ring.dropKick() }
        return try quiesce(rings, limits: options.drainLimits.hurried, exchange) { [self] _ in
            for ring in rings { ring.reset() }
            features = nil
            stopLogging()
            forgetDriver()
            return .done
        }
    }

    /// The device forgets the driver that it knew.
    func forgetDriver() {
        device.reset()
        announcedFeatures = nil
        for ring in rings { ring.stoppedBase = nil }
    }
}
