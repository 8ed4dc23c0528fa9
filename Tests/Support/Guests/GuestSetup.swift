// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A kind of guest: which machine, which ring format, how many request queues.
public struct GuestSetup: Hashable, Sendable, CustomStringConvertible {
    public enum Machine: String, CaseIterable, Sendable {
        case qemu = "QEMU"
        case uml = "UML"
    }

    public enum Ring: String, CaseIterable, Sendable {
        case split
        case packed
    }

    public let machine: Machine
    public let ring: Ring
    public let requestQueueCount: Int
    /// Threads of the daemon that serve them.
    public let requestThreadCount: Int

    public init(
        _ machine: Machine, _ ring: Ring, requestQueueCount: Int, requestThreadCount: Int = 1
    ) {
        self.machine = machine
        self.ring = ring
        self.requestQueueCount = requestQueueCount
        self.requestThreadCount = requestThreadCount
    }

    public var description: String {
        let queues = requestQueueCount == 1 ? "queue" : "queues"
        let threads = requestThreadCount == 1 ? "" : ", \(requestThreadCount) threads"
        return "\(machine.rawValue), \(ring.rawValue) rings, \(requestQueueCount) request \(queues)"
            + threads
    }

    /// Those of the kinds that `VHOSTD_SETUPS` names, as they describe themselves, with semicolons
    /// between them; all of them when it is not set.
    public static func wanted(_ setups: [GuestSetup]) -> [GuestSetup] {
        guard let list = ProcessInfo.processInfo.environment["VHOSTD_SETUPS"] else { return setups }
        let names = Set(list.split(separator: ";").map(String.init))
        return setups.filter { names.contains($0.description) }
    }

    /// The device features to withhold: user-mode-linux takes the packed ring whenever it is offered.
    public var disabledFeatures: [String] {
        machine == .uml && ring == .split ? ["packed"] : []
    }
}
