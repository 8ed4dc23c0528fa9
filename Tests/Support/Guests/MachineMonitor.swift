// SPDX-License-Identifier: Apache-2.0
import Foundation

/// The monitor of a QEMU (QMP): a line of JSON for each command, answer and event.
final class MachineMonitor {
    private let socket: StreamSocket

    /// Connects to a machine that listens.
    init(path: String) throws {
        socket = try StreamAddress.unix(path: path).connect()
        try socket.limitBlocking(seconds: 20)
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

    /// Where the processors are: whether they halt, the instruction they are at and the segment of its code.
    func processors() throws -> String {
        let answer = try execute(
            "human-monitor-command", arguments: "{\"command-line\": \"info registers -a\"}")
        let lines = answer.replacingOccurrences(of: "\\r\\n", with: "\n").split(separator: "\n")
        return lines.filter { line in
            ["CPU#", "RIP=", "EIP=", "CS ="].contains { line.contains($0) }
        }.joined(separator: "\n")
    }
}
