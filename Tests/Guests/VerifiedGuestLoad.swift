// SPDX-License-Identifier: Apache-2.0
import Foundation
import Guests
import Testing

/// fio in a guest, which checks what it reads, until it is ended.
struct VerifiedGuestLoad {
    private let guest: Guest
    private let device: String
    private let command: GuestCommand

    /// Transfers that a step forward is made of.
    private static let progress = 500

    /// Starts it on a disk, by its name, for example `sdb`.
    init(on guest: Guest, device: String) {
        self.guest = guest
        self.device = device
        command = guest.start("/scenarios/verified-load /dev/\(device)")
    }

    /// Passes over the disk that have ended.
    var passCount: Int { command.text.components(separatedBy: "pass ").count - 1 }

    /// Waits until some hundred transfers more have ended.
    func awaitProgress() throws {
        let before = try transferCount()
        try wait(for: "progress") { try transferCount() >= before + Self.progress }
    }

    /// Waits until transfers are under way; to be called when none ends.
    func awaitStandstill() throws {
        try wait(for: "transfers that wait") {
            try numbers("inflight").reduce(0, +) > 0
        }
    }

    /// Waits until the condition holds, while the load goes on.
    func wait(for what: String, until condition: () throws -> Bool) throws {
        for _ in 0..<12_000 {
            if try condition() { return }
            guard command.waitForExit(within: .milliseconds(50)) == nil else { break }
        }
        throw GuestError("waited in vain for \(what): \(command.text)")
    }

    /// Lets the pass end that is under way.
    func end() throws {
        try guest.run("touch /tmp/stop")
        #expect(command.waitForExit(within: .seconds(900)) == 0, "\(command.text)")
        #expect(command.text.hasSuffix("load ended"))
    }

    /// Reads and writes that have ended: fields 1 and 5 of the disk's statistics.
    private func transferCount() throws -> Int {
        let fields = try numbers("stat")
        return fields.count > 4 ? fields[0] + fields[4] : 0
    }

    private func numbers(_ file: String) throws -> [Int] {
        try guest.run("cat /sys/block/\(device)/\(file)").split(separator: " ")
            .compactMap { Int($0) }
    }
}

/// What a daemon uses of a processor while it has nothing to do.
struct RestingCost: CustomStringConvertible {
    private let daemon: Daemon
    private var used = Duration.zero
    private var passed = Duration.zero

    init(of daemon: Daemon) {
        self.daemon = daemon
    }

    /// The part of a processor, 0 when nothing has been measured.
    var share: Double { passed == .zero ? 0 : used / passed }

    var description: String { "rested for \(passed), used \(used) meanwhile" }

    /// Measures for so long, or longer on a machine with much to do.
    mutating func measure(for duration: Duration) throws {
        let clock = ContinuousClock()
        let (start, before) = (clock.now, try daemon.footprint().processorTime)
        Thread.sleep(forTimeInterval: duration / .seconds(1))
        used += try daemon.footprint().processorTime - before
        passed += clock.now - start
    }
}
