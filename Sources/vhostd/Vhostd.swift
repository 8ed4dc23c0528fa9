// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

@main
struct Vhostd: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "vhostd")
}
