// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Service

/// `vhostd check`: looks at a configuration and serves nothing.
struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check a configuration file and print what would count.",
        discussion: """
            Prints every value, defaults included, with the place that it comes from: a line of the
            file, a variable of the environment, or a flag. A variable replaces the file's value, a
            flag both. No disk is opened and no socket made.

            EXIT STATUS
              0 the configuration is right, 2 it is not; a message names file, line and key.
            """)

    @Argument(help: "The file; see vhostd.conf(5).")
    var file: String

    @Flag(name: .long, help: "Print nothing when all is well.")
    var quiet = false

    @OptionGroup var options: ServiceOptions

    func run() throws {
        let draft = try options.draft(file: file)
        let configuration = try draft.configuration()
        if !quiet { print(draft.effective(configuration), terminator: "") }
    }
}
