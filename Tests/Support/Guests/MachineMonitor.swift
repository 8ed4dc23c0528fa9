// SPDX-License-Identifier: Apache-2.0
import Foundation

/// The monitor of a QEMU (QMP): a line of JSON for each command, answer and event.
final class MachineMonitor {
    private let socket: StreamSocket

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
        _ = try socket.readLine()
        try execute("qmp_capabilities")
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

    /// Has the machine's guest move, and waits until it has.
    func migrate(to place: String, within limit: Duration) throws {
        let deadline = ContinuousClock().now + limit
        try execute("migrate", arguments: "{\"uri\": \"\(place)\"}")
        while true {
            let answer = try execute("query-migrate")
            if answer.contains("\"status\": \"completed\"") { return }
            guard !answer.contains("\"status\": \"failed\""), ContinuousClock().now < deadline
            else { throw GuestError("not moved within \(limit): \(answer)") }
            Thread.sleep(forTimeInterval: 0.05)
        }
    }
}
