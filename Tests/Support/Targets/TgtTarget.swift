// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A real iSCSI target, tgt, on a port of 127.0.0.1 of its own; killed when this object goes, and
/// when the tests end in any other way.
public final class TgtTarget {
    /// The name of the one target.
    public static let name = "iqn.2026-01.com.example:disk"

    /// Where it listens.
    public let port: UInt16
    /// A folder in memory for the disks.
    public let folder: String
    private var process: Process?
    private var leash: Pipe?
    private var processID: pid_t = 0
    private let configuration: Configuration

    /// What is set up at each start.
    public struct Configuration {
        /// Logical units from 1 on, by their sizes in bytes.
        public var diskByteCounts = [64 << 20]
        /// Bytes a block.
        public var blockSize = 512
        /// User and secret that initiators have to give.
        public var account: (user: String, secret: String)?
        /// User and secret that the target gives.
        public var outgoingAccount: (user: String, secret: String)?
        /// Parameters of the target, for example `InitialR2T`.
        public var parameters: [String: String] = [:]
        /// Where it listens instead of this machine's loopback.
        public var network: Network?
        /// Whether any initiator may log in.
        public var isOpen = true

        public init() {}
    }

    /// Starts a target.
    public init(_ configuration: Configuration = Configuration()) throws {
        self.configuration = configuration
        port = ListeningSockets.freePort()
        folder = "/dev/shm/vhostd-target-\(ProcessInfo.processInfo.processIdentifier)-\(port)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        for (index, byteCount) in configuration.diskByteCounts.enumerated() {
            try Program.run(["truncate", "-s", "\(byteCount)", disk(index + 1)])
        }
        do {
            try start()
        } catch {
            stop()
            throw error
        }
    }

    deinit {
        stop()
        // What cannot be removed lies in memory and goes with the machine.
        try? FileManager.default.removeItem(atPath: folder)
    }

    /// The file behind a logical unit.
    public func disk(_ lun: Int) -> String { "\(folder)/disk\(lun)" }

    /// The URL of a logical unit, for our program and for libiscsi's tools.
    public func url(lun: Int = 1, credentials: String = "") -> String {
        "iscsi://\(credentials)\(address):\(port)/\(Self.name)/\(lun)"
    }

    private var address: String { configuration.network?.farAddress ?? "127.0.0.1" }

    // MARK: Life

    /// Starts the target again, on the same port and with the same disks.
    public func start() throws {
        // The shell ends the target as soon as its input ends, which is when we do.
        let script = """
            ulimit -c 0
            tgtd -f -C \(port) --iscsi portal=\(address):\(port) >/dev/null 2>\(folder)/log &
            echo $!
            cat >/dev/null
            kill -9 $! 2>/dev/null
            """
        let process = Program.process(
            (configuration.network?.prefix ?? []) + ["sh", "-c", script])
        let output = Pipe()
        let leash = Pipe()
        process.standardOutput = output
        process.standardInput = leash
        try process.run()
        self.process = process
        self.leash = leash
        let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        processID = pid_t(line.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
        guard processID > 1 else { throw TargetError("tgtd did not start: \(line)") }
        try waitUntilListening()
        try setUp()
    }

    /// The target falls back to every address when its port is busy: that must not pass.
    private func waitUntilListening() throws {
        for _ in 0..<500 {
            if isListening, answersControl() { return }
            usleep(10_000)
        }
        throw TargetError("tgtd does not listen on \(address):\(port)")
    }

    private var isListening: Bool {
        let parts = address.split(separator: ".").compactMap { UInt32($0) }
        let digits = String(parts.reversed().reduce(0) { $0 << 8 | $1 }, radix: 16, uppercase: true)
        let wanted = ListeningSockets.Entry(
            address: String(repeating: "0", count: 8 - digits.count) + digits, port: port)
        return ListeningSockets.all(ofProcess: processID).contains(wanted)
    }

    private func answersControl() -> Bool {
        (try? administer("--op", "show", "--mode", "sys")) != nil
    }

    /// Kills the target as a crash would.
    public func kill() {
        if processID > 1 { _ = Glibc.kill(processID, SIGKILL) }
        processID = 0
        stop()
    }

    /// Stops the target's process: it answers nothing, and its connections stay.
    public func freeze() {
        _ = Glibc.kill(processID, SIGSTOP)
    }

    /// Lets a frozen target go on.
    public func thaw() {
        _ = Glibc.kill(processID, SIGCONT)
    }

    private func stop() {
        // Closing the leash has the shell kill the target and end.
        try? leash?.fileHandleForWriting.close()
        leash = nil
        process?.waitUntilExit()
        process = nil
    }

    // MARK: Set-up

    private func setUp() throws {
        try administer("--op", "new", "--mode", "target", "--tid", "1", "-T", Self.name)
        for (key, value) in configuration.parameters.sorted(by: { $0.key < $1.key }) {
            try administer(
                "--op", "update", "--mode", "target", "--tid", "1", "-n", key, "-v", value)
        }
        for index in configuration.diskByteCounts.indices { try addUnit(index + 1) }
        if let account = configuration.account { try addAccount(account, []) }
        if let account = configuration.outgoingAccount { try addAccount(account, ["--outgoing"]) }
        if configuration.isOpen {
            try administer("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")
        }
    }

    private func addAccount(
        _ account: (user: String, secret: String), _ options: [String]
    ) throws {
        try administer(
            ["--op", "new", "--mode", "account", "--user", account.user, "--password"]
                + [account.secret])
        try administer(
            ["--op", "bind", "--mode", "account", "--tid", "1", "--user", account.user] + options)
    }

    /// Adds the logical unit that its number's disk is behind.
    public func addUnit(_ lun: Int, disk number: Int? = nil) throws {
        try administer(
            "--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "\(lun)",
            "-b", disk(number ?? lun), "--blocksize", "\(configuration.blockSize)")
        try administer(
            "--op", "update", "--mode", "logicalunit", "--tid", "1", "--lun", "\(lun)",
            "--params", "thin_provisioning=1,scsi_sn=disk\(number ?? lun)")
    }

    /// Removes a logical unit.
    public func removeUnit(_ lun: Int) throws {
        try administer(
            "--op", "delete", "--mode", "logicalunit", "--tid", "1", "--lun", "\(lun)")
    }

    /// Drops every connection, as an administrator can.
    ///
    /// - Returns: how many there were.
    @discardableResult
    public func deleteConnections() throws -> Int {
        let sessions = try self.sessions()
        for session in sessions {
            try administer(
                "--op", "delete", "--mode", "conn", "--tid", "1", "--sid", session, "--cid", "0")
        }
        return sessions.count
    }

    /// The numbers of the sessions.
    public func sessions() throws -> [String] {
        try administer("--op", "show", "--mode", "conn", "--tid", "1")
            .split(separator: "\n").compactMap { line in
                line.hasPrefix("Session: ") ? String(line.dropFirst("Session: ".count)) : nil
            }
    }

    /// Runs tgtadm.
    @discardableResult
    public func administer(_ arguments: String...) throws -> String {
        try administer(arguments)
    }

    @discardableResult
    private func administer(_ arguments: [String]) throws -> String {
        try Program.run(["tgtadm", "-C", "\(port)", "--lld", "iscsi"] + arguments)
    }
}
