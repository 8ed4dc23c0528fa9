// SPDX-License-Identifier: Apache-2.0

import Foundation
import Targets
import Testing

/// A way in which a target goes away, and comes back.
enum Outage: String, CaseIterable, CustomTestStringConvertible {
    case killed, connectionDeleted, dropped, rejected, reset

    var testDescription: String { rawValue }

    /// Times that a test repeats it: a few, or as many as `VHOSTD_OUTAGES` says.
    static var roundCount: Int {
        ProcessInfo.processInfo.environment["VHOSTD_OUTAGES"].flatMap { Int($0) } ?? 3
    }

    /// What the network has to do with it.
    private var firewall: Network.Firewall? {
        switch self {
        case .killed, .connectionDeleted: nil
        case .dropped: .drop
        case .rejected: .reject
        case .reset: .reset
        }
    }

    /// A target that this can happen to.
    func target() throws -> OutageTarget {
        var setUp = TgtTarget.Configuration()
        if firewall != nil { setUp.network = try Network() }
        return OutageTarget(target: try TgtTarget(setUp), network: setUp.network, outage: self)
    }

    struct OutageTarget {
        let target: TgtTarget
        let network: Network?
        let outage: Outage

        func goAway() throws {
            switch outage {
            case .killed: target.kill()
            case .connectionDeleted: try target.deleteConnections()
            case .dropped, .rejected, .reset:
                if let firewall = outage.firewall { try network?.close(target.port, by: firewall) }
            }
        }

        func comeBack() throws {
            switch outage {
            case .killed: try target.start()
            case .connectionDeleted: break
            case .dropped, .rejected, .reset: try network?.open()
            }
        }
    }
}
