// SPDX-License-Identifier: Apache-2.0

import Foundation
import Guests

/// A shell that tidies up when it is let go of, or when the tests end in any other way: its input ends
/// then, whatever becomes of us.
final class Leash {
    private let process: Process
    private let input: Pipe
    private let output: Pipe

    /// Starts the shell.
    ///
    /// - Parameters:
    ///   - prefix: what the shell has to be started with.
    ///   - preparation: shell commands that run now.
    ///   - tidying: shell commands that run at the end.
    /// - Throws: what keeps the shell from being started.
    init(prefix: [String] = [], preparation: String = ":", tidying: String) throws {
        // What ends a group of processes from the keyboard must not end this one before its work.
        let script = """
            trap '' INT TERM HUP
            \(preparation)
            cat >/dev/null
            \(tidying)
            """
        let process = Program.process(prefix + ["sh", "-c", script])
        process.standardError = FileHandle.nullDevice
        self.process = process
        (input, output) = try ProcessStart.alone {
            let (input, output) = (Pipe(), Pipe())
            process.standardInput = input
            process.standardOutput = output
            try process.run()
            return (input, output)
        }
    }

    deinit { release() }

    /// The first line that the preparation prints.
    func firstLine() -> String {
        let data = output.fileHandleForReading.availableData
        return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Has the shell do its work, and waits for it.
    func release() {
        // The pipe is closed already when this is the second time.
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
        try? output.fileHandleForReading.close()
    }
}
