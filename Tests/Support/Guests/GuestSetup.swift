// SPDX-License-Identifier: Apache-2.0

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

    public init(_ machine: Machine, _ ring: Ring, requestQueueCount: Int) {
        self.machine = machine
        self.ring = ring
        self.requestQueueCount = requestQueueCount
    }

    public var description: String {
        let queues = requestQueueCount == 1 ? "queue" : "queues"
        return "\(machine.rawValue), \(ring.rawValue) rings, \(requestQueueCount) request \(queues)"
    }

    /// The device features to withhold: user-mode-linux takes the packed ring whenever it is offered.
    public var disabledFeatures: [String] {
        machine == .uml && ring == .split ? ["packed"] : []
    }
}
