// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests
import Testing

/// Two kernels, each on a daemon of its own, that meet in a directory of sockets.
@Suite("Two real guests that are siblings", .serialized)
struct SiblingGuestTests {
    /// Two kinds of guests.
    struct Pair: Sendable, CustomTestStringConvertible {
        let first: GuestSetup
        let second: GuestSetup
        var testDescription: String { "\(first) and \(second)" }
    }

    static let pairs = [
        Pair(
            first: GuestSetup(.uml, .split, requestQueueCount: 1),
            second: GuestSetup(.uml, .packed, requestQueueCount: 1)),
        Pair(
            first: GuestSetup(.uml, .packed, requestQueueCount: 1),
            second: GuestSetup(.qemu, .split, requestQueueCount: 1)),
    ]

    /// Both guests, with the context identifiers 42 and 43, and the directory where they meet.
    private final class Siblings {
        let directory: String
        let daemons: [Daemon]
        let guests: [Guest]

        init(_ pair: Pair) throws {
            let directory = try Workspace.makeRunFolder()
            self.directory = directory
            let setups = [pair.first, pair.second]
            daemons = try setups.enumerated().map { index, setup in
                try Daemon(
                    disabledFeatures: setup.disabledFeatures, diskMebibytes: 64,
                    guestCID: 42 + UInt32(index),
                    furtherArguments: ["--vsock-siblings", directory, "--vsock-group", "blue"])
            }
            guests = try zip(setups, daemons).map { try Guest($0, on: $1) }
        }

        /// Powers what still runs off; every daemon has to end well.
        func end() throws {
            for guest in guests where guest.isRunning { try guest.powerOff() }
            for daemon in daemons {
                #expect(daemon.terminate(within: .seconds(1)) == .exited(0))
                try daemon.remove()
            }
            let left = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(left == [], "each service takes its sockets away")
            try FileManager.default.removeItem(atPath: directory)
        }
    }

    @Test(
        "exchange bytes and messages, both ways and at once, by context identifier",
        arguments: pairs)
    func exchange(_ pair: Pair) async throws {
        try await onOwnThread {
            let siblings = try Siblings(pair)
            let (first, second) = (siblings.guests[0], siblings.guests[1])
            for guest in siblings.guests {
                try guest.start("exercise serve vsock:any:5002").waitForLine("serving")
                try guest.start("exercise serve vsock-messages:any:5003").waitForLine("serving")
            }
            let sent = try first.run("exercise send vsock:43:5002 32 1")
            let received = try first.run("exercise receive vsock:43:5002 32 1")
            #expect(sent.hasPrefix("sent 33554432 "))
            #expect(sent.split(separator: " ")[1...] == received.split(separator: " ")[1...])

            let outward = first.start("exercise send vsock:43:5002 16 2")
            let inward = second.start("exercise send vsock:42:5002 16 3")
            #expect(outward.waitForExit(within: .seconds(300)) == 0)
            #expect(inward.waitForExit(within: .seconds(300)) == 0)

            let messages = try second.run("exercise send vsock-messages:42:5003 4 4")
            let returned = try second.run("exercise receive vsock-messages:42:5003 4 4")
            #expect(messages.hasPrefix("sent 4194304 "))
            #expect(messages.split(separator: " ")[1...] == returned.split(separator: " ")[1...])
            #expect(
                try first.run("exercise crowd vsock:43:5002 50 16 2")
                    == "echoed 1638400 over 50 connections")
            // What nobody serves, and who is not there, is refused at once: ECONNRESET, no timeout.
            for address in ["vsock:43:5999", "vsock:77:5002"] {
                let answer = try first.run("exercise send \(address) 1 1 2>&1; true")
                #expect(answer.contains("reset by peer"), "\(answer)")
            }
            try siblings.end()
        }
    }

    @Test("see each other go: a writer is told when the reader's machine is killed")
    func death() async throws {
        try await onOwnThread {
            let siblings = try Siblings(Self.pairs[0])
            let (first, second) = (siblings.guests[0], siblings.guests[1])
            try second.start("exercise serve vsock:any:5002").waitForLine("serving")
            #expect(try first.run("exercise send vsock:43:5002 1 2").hasPrefix("sent 1048576 "))
            let idle = try siblings.daemons[0].settledFootprint()
            let writer = first.start("exercise send vsock:43:5002 100000 1")
            second.kill()
            let status = writer.waitForExit(within: .seconds(300))
            #expect(status != nil && status != 0, "the writer fails: \(writer.text)")
            let left = try siblings.daemons[0].footprint(settledTo: idle, within: .seconds(300))
            #expect(left.holdsAsMuch(as: idle), "\(left)")
            try siblings.end()
        }
    }
}
