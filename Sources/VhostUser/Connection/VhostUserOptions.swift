// SPDX-License-Identifier: Apache-2.0

public import Virtio

/// How long a stopping queue may take.
public struct DrainLimits: Equatable, Sendable {
    /// After this long the device is asked to end what it can (`VirtioDevice.expediteStop`).
    public var expedite: Duration
    /// After this long the front-end is answered although requests are in flight.
    ///
    /// Their memory stays mapped until they are done.
    public var abandon: Duration

    public init(expedite: Duration = .seconds(5), abandon: Duration = .seconds(10)) {
        self.expedite = expedite
        self.abandon = abandon
    }

    /// For when nobody waits for what is in flight: a reset, or a front-end that has gone.
    var hurried: DrainLimits { DrainLimits(expedite: .zero, abandon: abandon) }
}

/// What can be set of a server.
public struct VhostUserOptions: Sendable {
    /// The device's name in the log.
    public var name: String
    /// Features that are not offered.
    public var withheld: WithheldFeatures
    /// Feature bits of the device's own that must not be ignored: a driver that sets one that was
    /// not offered is turned away.
    ///
    /// Other bits of the device's own are let pass: QEMU sets some without asking.
    public var indispensable: VirtioFeatures
    /// How long a queue may take to stop.
    public var drainLimits: DrainLimits
    /// Whether a ring that has run before (its base says so) starts without a kick.
    ///
    /// A front-end need not kick a ring that it restores.
    public var resumesWithoutKick: Bool

    public init(
        name: String, withheld: WithheldFeatures = WithheldFeatures(),
        indispensable: VirtioFeatures = [], drainLimits: DrainLimits = DrainLimits(),
        resumesWithoutKick: Bool = true
    ) {
        self.name = name
        self.withheld = withheld
        self.indispensable = indispensable
        self.drainLimits = drainLimits
        self.resumesWithoutKick = resumesWithoutKick
    }
}
