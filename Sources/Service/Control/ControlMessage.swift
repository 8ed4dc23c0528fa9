// SPDX-License-Identifier: Apache-2.0

public import BlockStorage

/// What is asked over a control socket: one line of JSON with the key `command`.
public struct ControlRequest: Codable, Equatable, Sendable {
    /// What can be asked.
    public enum Command: String, Codable, CaseIterable, Sendable {
        /// Everything that there is to see.
        case status
        /// The same in Prometheus' text format.
        case metrics
        /// Needs `unit`, as `--lun` has it.
        case addUnit = "lun-add"
        /// Needs `place`, as the next two.
        case removeUnit = "lun-remove"
        case resizeUnit = "lun-resize"
        /// Needs `limits`, too.
        case limitUnit = "lun-limit"
        /// The same, and every connection over vsock.
        case connections
        /// Takes nothing new from the guest; `status` tells when nothing is under way any more.
        case drain
        /// Takes it again.
        case resume
        /// Needs `level`.
        case logLevel = "log-level"
    }

    public var command: Command
    public var unit: String?
    public var place: UnitPlace?
    public var limits: StoreLimits?
    public var level: String?

    public init(
        _ command: Command, unit: String? = nil, place: UnitPlace? = nil,
        limits: StoreLimits? = nil, level: String? = nil
    ) {
        self.command = command
        self.unit = unit
        self.place = place
        self.limits = limits
        self.level = level
    }
}

/// The answer to a request: one line of JSON with one of these keys; `connections` comes with `status`.
public struct ControlReply: Codable, Equatable, Sendable {
    /// Why it was not done.
    public var error: String?
    /// That it was done, for people.
    public var message: String?
    public var status: ServiceStatus?
    public var metrics: String?
    public var connections: [ConnectionStatus]?

    public init(
        error: String? = nil, message: String? = nil, status: ServiceStatus? = nil,
        metrics: String? = nil, connections: [ConnectionStatus]? = nil
    ) {
        self.error = error
        self.message = message
        self.status = status
        self.metrics = metrics
        self.connections = connections
    }
}
