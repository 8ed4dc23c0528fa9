// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests
import Targets
import Testing

/// The daemon itself with a unit that cannot be had; no guest is needed for that.
@Suite("A mistake about an iSCSI target", .serialized)
struct ISCSIMistakeTests {
    /// What is wrong, and what the log has to say of it.
    struct Mistake: Sendable, CustomTestStringConvertible {
        let testDescription: String
        var portal: String?
        var name = TgtTarget.name
        var lun = 1
        var credentials = "joe%secret-of-joe@"
        let message: String
    }

    static let mistakes = [
        Mistake(
            testDescription: "portal", portal: "127.0.0.1:1",
            message: "no connection to 127.0.0.1:1: Connection refused"),
        Mistake(
            testDescription: "portal's name", portal: "host.invalid",
            message: "the portal's name host.invalid cannot be resolved"),
        Mistake(
            testDescription: "target's name", name: "iqn.2026-01.com.example:other",
            message: "refuses the login: no target of this name (0203h)"),
        Mistake(
            testDescription: "LUN", lun: 9,
            message: "the target has no LUN 9, or does not show it to this initiator"),
        Mistake(
            testDescription: "secret", credentials: "joe%secret-of-jim@",
            message: "authentication failed: user or secret wrong or missing (0201h)"),
        Mistake(
            testDescription: "no secret", credentials: "",
            message: "authentication failed: user or secret wrong or missing (0201h)"),
    ]

    @Test(
        "is named in the log, without the secret, and does not end the service",
        arguments: mistakes)
    func named(mistake: Mistake) async throws {
        try await onOwnThread {
            var setUp = TgtTarget.Configuration()
            setUp.account = ("joe", "secret-of-joe")
            let target = try TgtTarget(setUp)
            let portal = mistake.portal ?? "127.0.0.1:\(target.port)"
            let url = "iscsi://\(mistake.credentials)\(portal)/\(mistake.name)/\(mistake.lun)"
            try Self.expect(mistake.message, of: url)
        }
    }

    /// What a target answers to a login, and what the log has to say of it.
    static let answers: [(UInt16, String)] = [
        (0x0202, "this initiator is not allowed to use the target (0202h)"),
        (0x0206, "too many connections (0206h)"),
        (0x0301, "the service is unavailable (0301h)"),
        (0x0302, "the target is out of resources (0302h)"),
    ]

    @Test("or a refusal by the target is named", arguments: answers)
    func refused(status: UInt16, message: String) async throws {
        try await onOwnThread {
            var script = ScriptedTarget.Script()
            script.loginStatus = status
            let target = try ScriptedTarget(script)
            defer { target.stop() }
            try Self.expect("refuses the login: " + message, of: target.url)
        }
    }

    @Test("like a target that sends everybody in circles is named")
    func circle() async throws {
        try await onOwnThread {
            let target = try ScriptedTarget()
            defer { target.stop() }
            target.change {
                $0.loginStatus = 0x0101
                $0.loginKeys = ["TargetAddress=127.0.0.1:\(target.port),1"]
            }
            try Self.expect("the target sends us on more than 4 times", of: target.url)
        }
    }

    private static func expect(_ message: String, of url: String) throws {
        let daemon = try Daemon(diskMebibytes: 16, furtherUnits: ["iscsi=\(url),target=1"])
        for _ in 0..<6000 where !daemon.log.contains(message) { usleep(50_000) }
        #expect(daemon.log.contains(message), "\(daemon.log)")
        #expect(!daemon.log.contains("secret-of"))
        #expect(daemon.isRunning)
        #expect(daemon.terminate(within: .seconds(10)) == .exited(0))
        try daemon.remove()
    }
}
