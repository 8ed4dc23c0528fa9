// SPDX-License-Identifier: Apache-2.0

/// A shell command that runs in a guest.
public struct GuestCommand: Sendable {
    struct Output: Sendable {
        var lines: [String] = []
        var status: Int?
    }

    let identifier: Int
    let guest: Guest

    /// What the command has printed so far.
    public var text: String {
        guest.agent.update { $0.outputs[identifier]?.lines.joined(separator: "\n") ?? "" }
    }

    /// The exit status; nil when the command did not end within `timeout`.
    public func waitForExit(within timeout: Duration) -> Int? {
        guest.agent.wait(within: timeout) { $0.outputs[identifier]?.status }
    }

    /// Waits for a line that the command prints.
    public func waitForLine(_ line: String, within timeout: Duration = .seconds(60)) throws {
        let answer: Bool? = guest.agent.wait(within: timeout) { agent in
            guard let output = agent.outputs[identifier] else { return false }
            return output.lines.contains(line) ? true : output.status == nil ? nil : false
        }
        if answer != true { throw guest.failure("the line \"\(line)\" did not come: \(text)") }
    }
}
