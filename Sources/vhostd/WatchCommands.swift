// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Service

/// `vhostd top`: what a service does, while it does it.
struct TopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "Show what each disk and each connection does in a second, again and again.",
        discussion: """
            HELD are requests that wait because of a limit; TIME is what reads and writes took on the
            average; STALLS is how often a connection had bytes for the guest and no credit; WAITS are
            bytes of the guest that the host has not taken. Ends with Control-C, or with the service.
            """)

    @Option(name: .long, help: "Seconds between two looks.")
    var interval = 1.0

    @Option(name: .long, help: "How often; without it for ever.")
    var count: Int?

    @OptionGroup var options: ControlOptions

    func validate() throws {
        guard interval > 0, interval <= 3600 else {
            throw ValidationError("--interval \(interval): more than 0, and 3600 at most")
        }
        if let count, count < 1 { throw ValidationError("--count \(count): 1 at least") }
    }

    func run() throws {
        try options.client.watch(every: interval, count: count, json: options.json)
    }
}

/// `vhostd ctl drain`: nothing new is taken, and what is under way ends.
struct DrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain",
        abstract: "Take nothing new from the guest, and wait until nothing is under way.",
        discussion: """
            Requests for disks stay in the guest's rings; connections are not made, and those that
            there are go on until somebody closes them. The guest waits, and may complain after half
            a minute. It goes on with vhostd ctl resume.

            EXIT STATUS
              0 nothing is under way any more, 1 something still is, or the service does not answer.
            """)

    @Option(name: .long, help: "Seconds to wait.")
    var within: UInt64 = 30

    @OptionGroup var options: ControlOptions

    func run() throws {
        let reply = try options.client.drain(within: within)
        if options.json { print(reply.json) }
        guard let status = reply.status else { return }
        guard status.isDry else { throw ServiceFailure("still under way: \(status.underWay)") }
        if !options.json { print("drained; vhostd ctl resume lets the guest go on") }
    }
}

struct ResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume", abstract: "Take requests and connections again after drain.")

    @OptionGroup var options: ControlOptions

    func run() throws { try options.change(ControlRequest(.resume)) }
}
