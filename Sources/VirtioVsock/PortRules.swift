// SPDX-License-Identifier: Apache-2.0

/// Which ports may be reached, and which not.
///
/// A port that a denial covers is refused. So is one that no permission covers, when there is any
/// permission for that side.
public struct PortRules: Equatable, Sendable {
    /// Whose ports a rule is about.
    public enum Side: String, CaseIterable, Sendable {
        /// Ports of the host, and of siblings, that the guest connects to.
        case host
        /// Ports of the guest that the host's clients, and siblings, connect to.
        case guest
    }

    /// Some ports of one side.
    public struct Rule: Equatable, Sendable {
        public let side: Side
        public let ports: ClosedRange<UInt32>

        public init(_ side: Side, _ ports: ClosedRange<UInt32>) {
            self.side = side
            self.ports = ports
        }

        func covers(_ side: Side, _ port: VsockPort) -> Bool {
            self.side == side && ports.contains(port.rawValue)
        }
    }

    public var allowed: [Rule] = []
    public var denied: [Rule] = []

    /// Every port may be reached.
    public init() {}

    /// Whether a connection to the port may be made.
    func permit(_ side: Side, _ port: VsockPort) -> Bool {
        if denied.contains(where: { $0.covers(side, port) }) { return false }
        return !allowed.contains { $0.side == side }
            || allowed.contains { $0.covers(side, port) }
    }
}
