// SPDX-License-Identifier: Apache-2.0

/// A shell command that runs in a guest.
public struct GuestCommand: Sendable {
    struct Output: Sendable {
        /// The boot of the guest that the command runs in.
        let boot: Int
        var lines: [String] = []
        var status: Int?
    }

    let identifier: Int
    let guest: Guest

    /// What the command has printed so far.
    public var text: String {
        guest.agent.update { $0.outputs[identifier]?.lines.joined(separator: "\n") ?? "" }
    }

    /// The exit status; nil when the command did not end within `timeout`, or the guest did.
    public func waitForExit(within timeout: Duration) -> Int? {
        let answer: Int?? = guest.agent.wait(within: timeout) { agent in
            if let status = agent.outputs[identifier]?.status { return .some(status) }
            return agent.canStillAnswer(identifier) ? nil : .some(nil)
        }
        return answer ?? nil
    }

    /// Waits for a line that the command prints.
    public func waitForLine(_ line: String, within timeout: Duration = .seconds(300)) throws {
        let answer: Bool? = guest.agent.wait(within: timeout) { agent in
            if agent.outputs[identifier]?.lines.contains(line) == true { return true }
            return agent.canStillAnswer(identifier) ? nil : false
        }
        if answer != true { throw guest.failure("the line \"\(line)\" did not come: \(text)") }
    }
}

extension Guest.Agent {
    /// Whether a command may still print: it runs, and so does the kernel that it was started in.
    func canStillAnswer(_ identifier: Int) -> Bool {
        guard let output = outputs[identifier] else { return false }
        return output.status == nil && output.boot == readyCount && !hasEnded
    }
}
