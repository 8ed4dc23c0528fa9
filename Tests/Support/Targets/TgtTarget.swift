// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A real iSCSI target, tgt, on a port of 127.0.0.1 of its own; killed when this object goes, and
/// when the tests end in any other way.
public final class TgtTarget {
    /// The name of the one target.
    public static let name = "iqn.2026-01.com.example:disk"

    /// Where it listens.
    public private(set) var port: UInt16
    /// A folder in memory for the disks and the control socket.
    public let folder: String
    private let folderLeash: Leash
    private var leash: Leash?
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
        /// The address of this machine's loopback that it listens on.
        public var address = "127.0.0.1"
        /// Where it listens instead.
        public var network: Network?
        /// Whether any initiator may log in.
        public var isOpen = true

        public init() {}
    }

    /// Starts a target.
    public init(_ configuration: Configuration = Configuration()) throws {
        self.configuration = configuration
        port = ListeningSockets.freePort()
        folder = "/dev/shm/vhostd-target-\(UInt32.random(in: 0...UInt32.max))"
        folderLeash = try Leash(tidying: "rm -rf \(folder)")
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        for (index, byteCount) in configuration.diskByteCounts.enumerated() {
            try Program.run(["truncate", "-s", "\(byteCount)", disk(index + 1)])
        }
        try startSomewhere()
    }

    /// Somebody else may take a port between our look at it and tgt's.
    private func startSomewhere() throws {
        for _ in 0..<4 {
            do {
                return try start()
            } catch is PortTaken {
                stop()
                port = ListeningSockets.freePort()
            }
        }
        throw TargetError("no free port for a target")
    }

    deinit { stop() }

    /// The file behind a logical unit.
    public func disk(_ lun: Int) -> String { "\(folder)/disk\(lun)" }

    /// The URL of a logical unit, for our program and for libiscsi's tools.
    public func url(lun: Int = 1, credentials: String = "") -> String {
        "iscsi://\(credentials)\(address):\(port)/\(Self.name)/\(lun)"
    }

    /// The address as it stands in a portal.
    private var address: String {
        let address = configuration.network?.farAddress ?? configuration.address
        return address.contains(":") ? "[\(address)]" : address
    }

    // MARK: Life

    /// Starts the target again, on the same port and with the same disks.
    public func start() throws {
        let leash = try Leash(
            prefix: configuration.network?.prefix ?? [],
            preparation: """
                ulimit -c 0
                export TGT_IPC_SOCKET=\(controlSocket)
                tgtd -f -C \(port) --iscsi portal=\(address):\(port) >/dev/null 2>\(folder)/log &
                echo $!
                """,
            tidying: "kill -9 $! 2>/dev/null")
        self.leash = leash
        processID = pid_t(leash.firstLine()) ?? 0
        guard processID > 1 else { throw TargetError("tgtd did not start") }
        try waitUntilListening()
        try setUp()
    }

    /// A control socket of our own: another tgtd on this machine is not disturbed.
    private var controlSocket: String { folder + "/control" }

    /// The target falls back to every address when its port is busy: that must not pass.
    private func waitUntilListening() throws {
        let end = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < end {
            let sockets = ListeningSockets.all(heldBy: processID)
            if sockets.contains(where: \.isOpenToAll) { throw PortTaken() }
            if sockets.contains(where: { $0.port == port }), answersControl() { return }
            usleep(10_000)
        }
        throw TargetError("tgtd does not listen on \(address):\(port)")
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
        leash?.release()
        leash = nil
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

    /// The numbers of the sessions that have a connection.
    public func sessions() throws -> [String] {
        var session = ""
        var connected: [String] = []
        for line in try administer("--op", "show", "--mode", "conn", "--tid", "1")
            .split(separator: "\n")
        {
            let words = line.split(separator: " ").map(String.init)
            if words.first == "Session:" { session = words.last ?? "" }
            if words.first == "Connection:" { connected.append(session) }
        }
        return connected
    }

    /// Listens on another port of the same address, too.
    public func openPortal(_ port: UInt16) throws {
        try administer("--op", "new", "--mode", "portal", "--param", "portal=\(address):\(port)")
    }

    /// Stops listening on a port; connections stay.
    public func closePortal(_ port: UInt16) throws {
        try administer(
            "--op", "delete", "--mode", "portal", "--param", "portal=\(address):\(port)")
    }

    /// Runs tgtadm.
    @discardableResult
    public func administer(_ arguments: String...) throws -> String {
        try administer(arguments)
    }

    @discardableResult
    private func administer(_ arguments: [String]) throws -> String {
        try Program.run(
            ["env", "TGT_IPC_SOCKET=" + controlSocket, "tgtadm", "-C", "\(port)"]
                + ["--lld", "iscsi"] + arguments)
    }
}

/// Somebody else listens on the port, and tgt on every address instead.
private struct PortTaken: Error {}
