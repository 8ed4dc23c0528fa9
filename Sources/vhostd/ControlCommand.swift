// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Service

/// `vhostd ctl`: looks at a running service and changes it.
struct ControlCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ctl",
        abstract: "Look at a running service and change it.",
        discussion: """
            Speaks to the service's control socket (--control-socket, control.socket). What is
            changed here holds until the service ends; its configuration file is left alone.

            EXIT STATUS
              0 done, 1 the service refused or does not answer, 2 wrong command line.
            """,
        subcommands: [
            StatusCommand.self, UnitCommand.self, ConnectionsCommand.self, TopCommand.self,
            DrainCommand.self, ResumeCommand.self, MetricsCommand.self, LogLevelCommand.self,
        ])
}

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show the service and its devices.")

    @OptionGroup var options: ControlOptions

    func run() throws { try options.show { $0.overviewTable } }
}

struct ConnectionsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connections", abstract: "Show the connections over vsock, and their traffic.")

    @OptionGroup var options: ControlOptions

    func run() throws {
        let reply = try options.ask(ControlRequest(.connections))
        print(options.json ? reply.json + "\n" : reply.connectionTables, terminator: "")
    }
}

struct MetricsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "metrics", abstract: "Print the figures in Prometheus' text format.")

    @OptionGroup var options: ControlOptions

    func run() throws {
        let reply = try options.ask(ControlRequest(.metrics))
        print(options.json ? reply.json + "\n" : reply.metrics ?? "", terminator: "")
    }
}

struct LogLevelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log-level", abstract: "Change which messages are logged.")

    @Argument(help: "The least severe message that is logged from now on.")
    var level: LogLevel

    @OptionGroup var options: ControlOptions

    func run() throws {
        try options.change(ControlRequest(.logLevel, level: level.rawValue))
    }
}
