// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A network namespace of its own, joined to ours by two virtual Ethernet ports; nothing leads
/// further.
///
/// Removed when this object goes.
public final class Network {
    /// The address of the far end, and of ours.
    public let farAddress: String
    public let nearAddress: String
    private let name: String
    private let port: String
    private let leash: Leash

    /// Makes a namespace; needs the right to.
    public init() throws {
        let number = try Self.addNamespace()
        name = Self.name(number)
        port = "vhostd\(number)"
        // TEST-NET-2 of RFC 5737, four addresses for each.
        farAddress = "198.51.100.\(number * 4 + 2)"
        nearAddress = "198.51.100.\(number * 4 + 1)"
        leash = try Leash(tidying: "ip link del \(port); ip netns del \(name)")
        try connect()
    }

    /// A number is taken machine-wide by the name of its namespace.
    private static func addNamespace() throws -> Int {
        var reason: any Error = TargetError("no network namespace is free")
        for number in (0..<64).shuffled() {
            do {
                try Program.run(["ip", "netns", "add", name(number)])
                return number
            } catch {
                reason = error
            }
        }
        throw reason
    }

    private static func name(_ number: Int) -> String { "vhostd-\(number)" }

    private func connect() throws {
        let peer = port + "f"
        try Program.run(
            ["ip", "link", "add", port, "type", "veth", "peer", "name", peer, "netns", name])
        try Program.run(["ip", "addr", "add", nearAddress + "/30", "dev", port])
        try Program.run(["ip", "link", "set", port, "up"])
        try run(["ip", "addr", "add", farAddress + "/30", "dev", peer])
        try run(["ip", "link", "set", peer, "up"])
        try run(["ip", "link", "set", "lo", "up"])
        try run(["nft", "add", "table", "ip", "filter"])
        try run([
            "nft", "add", "chain", "ip", "filter", "input",
            "{ type filter hook input priority 0; }",
        ])
    }

    /// Runs a program at the far end.
    @discardableResult
    public func run(_ arguments: [String]) throws -> String {
        try Program.run(["ip", "netns", "exec", name] + arguments)
    }

    /// What a program has to be started with to run at the far end.
    public var prefix: [String] { ["ip", "netns", "exec", name] }

    /// What the far end's firewall does with what comes to a port.
    public enum Firewall: String, CaseIterable, Sendable {
        case drop = "drop"
        case reject = "reject"
        case reset = "reject with tcp reset"
    }

    /// Closes a port of the far end.
    public func close(_ port: UInt16, by firewall: Firewall) throws {
        try run(
            ["nft", "add", "rule", "ip", "filter", "input", "tcp", "dport", "\(port)"]
                + firewall.rawValue.split(separator: " ").map(String.init))
    }

    /// Opens every port of the far end.
    public func open() throws {
        try run(["nft", "flush", "chain", "ip", "filter", "input"])
    }
}
