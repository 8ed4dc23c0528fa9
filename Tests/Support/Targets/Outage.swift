// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A way in which a target goes away, and comes back.
public enum Outage: String, CaseIterable, Sendable {
    case killed, connectionDeleted, dropped, rejected, reset

    /// Those that can be had here: only root may make a network with a firewall.
    public static let possible = allCases.filter { $0.firewall == nil || geteuid() == 0 }

    /// Times that a test repeats it: a few, or as many as `VHOSTD_OUTAGES` says.
    public static let roundCount =
        ProcessInfo.processInfo.environment["VHOSTD_OUTAGES"].flatMap { Int($0) } ?? 3

    /// Whether the target stays away until it comes back.
    public var lasts: Bool { self != .connectionDeleted }

    /// Whether a connection ends by it at once.
    public var isHeardOf: Bool { self != .dropped && self != .rejected }

    /// What the network has to do with it.
    fileprivate var firewall: Network.Firewall? {
        switch self {
        case .killed, .connectionDeleted: nil
        case .dropped: .drop
        case .rejected: .reject
        case .reset: .reset
        }
    }
}

/// A target that goes away and comes back in one way.
public struct UnsteadyTarget {
    public let target: TgtTarget
    private let network: Network?
    private let outage: Outage

    public init(_ outage: Outage) throws {
        self.outage = outage
        var setUp = TgtTarget.Configuration()
        if outage.firewall != nil { setUp.network = try Network() }
        network = setUp.network
        target = try TgtTarget(setUp)
    }

    /// Whether nothing may be heard from it, not even that it is gone.
    public var isFirewalled: Bool { network != nil }

    public func goAway() throws {
        switch outage {
        case .killed: target.kill()
        case .connectionDeleted: try target.deleteConnections()
        case .dropped, .rejected, .reset:
            if let firewall = outage.firewall { try network?.close(target.port, by: firewall) }
        }
    }

    public func comeBack() throws {
        switch outage {
        case .killed: try target.start()
        case .connectionDeleted: break
        case .dropped, .rejected, .reset: try network?.open()
        }
    }
}
