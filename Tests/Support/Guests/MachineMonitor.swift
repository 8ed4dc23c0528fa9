// SPDX-License-Identifier: Apache-2.0
import Foundation

/// The monitor of a QEMU (QMP): a line of JSON for each command, answer and event.
final class MachineMonitor {
    private let socket: StreamSocket
    private let greeting: String

    /// Connects, as soon as the machine listens.
    init(path: String, within limit: Duration = .zero) throws {
        let deadline = ContinuousClock().now + limit
        while true {
            do {
                socket = try StreamAddress.unix(path: path).connect()
                break
            } catch  where ContinuousClock().now < deadline {
                Thread.sleep(forTimeInterval: 0.02)
            }
        }
        greeting = try socket.readLine()
        try execute("qmp_capabilities")
    }

    /// QEMU's version, of which the first number counts.
    private var majorVersion: Int? {
        greeting.components(separatedBy: "\"major\": ").dropFirst().first
            .flatMap { Int($0.prefix { $0.isNumber }) }
    }

    /// Has a command executed.
    ///
    /// - Returns: the line with its answer.
    /// - Throws: the line with an error.
    @discardableResult
    func execute(_ command: String, arguments: String = "{}") throws -> String {
        try socket.write("{\"execute\": \"\(command)\", \"arguments\": \(arguments)}\n")
        while true {
            let line = try socket.readLine()
            if line.hasPrefix("{\"return\"") { return line }
            if line.hasPrefix("{\"error\"") { throw GuestError("\(command): \(line)") }
        }
    }

    /// Where the processors are: whether they halt, the instruction they are at and the segment of its code.
    func processors() throws -> String {
        try socket.limitBlocking(seconds: 20)
        let answer = try execute(
            "human-monitor-command", arguments: "{\"command-line\": \"info registers -a\"}")
        let lines = answer.replacingOccurrences(of: "\\r\\n", with: "\n").split(separator: "\n")
        return lines.filter { line in
            ["CPU#", "RIP=", "EIP=", "CS ="].contains { line.contains($0) }
        }.joined(separator: "\n")
    }

    /// Has the machine's guest move, and waits until it has left.
    ///
    /// Its processors stand still until the machine watches what they write; slow at first, or it might
    /// have moved before they go on.
    ///
    /// - Throws: with a QEMU before 9.0, too: see the README of the guests' tests.
    func migrate(to place: String, within limit: Duration) throws {
        guard let majorVersion, majorVersion >= 9 else {
            throw GuestError("a QEMU before 9.0 loses what emulated processors write: \(greeting)")
        }
        let deadline = ContinuousClock().now + limit
        try execute("stop")
        try startMigration(to: place, until: deadline)
        try execute("cont")
        try setSpeed(mebibytesPerSecond: 1024)
        try wait(for: "query-migrate", "\"completed\"", until: deadline)
    }

    /// Has the machine's guest begin to move while it runs, and cancels that.
    func beginMigration(within limit: Duration) throws {
        let deadline = ContinuousClock().now + limit
        try startMigration(to: "exec:cat >/dev/null", until: deadline)
        try execute("migrate_cancel")
        try wait(for: "query-migrate", "\"cancelled\"", until: deadline)
    }

    private func startMigration(
        to place: String, until deadline: ContinuousClock.Instant
    ) throws {
        try setSpeed(mebibytesPerSecond: 1)
        try execute("migrate", arguments: "{\"uri\": \"\(place)\"}")
        try wait(for: "query-migrate", "\"active\"", until: deadline)
    }

    private func setSpeed(mebibytesPerSecond speed: Int) throws {
        try execute(
            "migrate-set-parameters", arguments: "{\"max-bandwidth\": \(speed << 20)}")
    }

    /// Waits until the guest that comes to this machine runs.
    func waitUntilRunning(within limit: Duration) throws {
        try wait(for: "query-status", "\"running\"", until: ContinuousClock().now + limit)
    }

    /// Asks again and again until the status in the answer is the wanted one.
    private func wait(
        for query: String, _ status: String, until deadline: ContinuousClock.Instant
    ) throws {
        while true {
            let answer = try execute(query)
            if answer.contains("\"status\": \(status)") { return }
            guard !answer.contains("\"status\": \"failed\""), ContinuousClock().now < deadline
            else { throw GuestError("no \(status) in time: \(answer)") }
            Thread.sleep(forTimeInterval: 0.02)
        }
    }
}
