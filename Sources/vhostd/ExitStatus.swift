// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import Service

extension Vhostd {
    /// Ends the process after a request for help, or a mistake on the command line.
    static func exit(
        withUsageError error: any Error, of command: any ParsableCommand.Type
    ) -> Never {
        if exitCode(for: error).isSuccess {
            print(command.fullMessage(for: error))
            exit(withStatus: .success)
        }
        printError(command.fullMessage(for: error))
        exit(withStatus: .usage)
    }

    static func exit(withStatus status: ExitStatus) -> Never {
        Glibc.exit(status.rawValue)
    }

    /// Writes to standard error, with the program's name in front.
    static func printError(_ message: String) {
        let text = message.hasPrefix("Error:") ? message : "vhostd: \(message)"
        StandardError.write(text + "\n")
    }
}
