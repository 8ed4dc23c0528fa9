// SPDX-License-Identifier: Apache-2.0
import Foundation
import Synchronization

/// A running guest, whose agent runs commands for the test.
public final class Guest: Sendable {
    /// What the agent has said so far.
    struct Agent: Sendable {
        var readyCount = 0
        /// How often the guest has moved to another machine.
        var moveCount = 0
        /// The machines whose process has ended, by the moves before them.
        var endedMachines: Set<Int> = []
        var nextIdentifier = 1
        var outputs: [Int: GuestCommand.Output] = [:]
        var transcript: [String] = []
    }

    public let setup: GuestSetup
    let agent = Monitor(Agent())
    /// The machine that it boots in.
    private let firstMachine: GuestMachine
    private let current: Mutex<ChildProcess>
    private let folder: String
    private static let restartCount = Atomic<Int>(0)

    /// Boots a guest on the daemon's two devices and waits for its agent.
    public convenience init(_ setup: GuestSetup, on daemon: Daemon) throws {
        try self.init(setup, devices: .served(by: daemon, as: setup))
    }

    /// Boots a guest and waits for its agent.
    public init(_ setup: GuestSetup, devices: GuestDevices) throws {
        self.setup = setup
        let folder = try Workspace.makeRunFolder()
        self.folder = folder
        firstMachine = GuestMachine(setup: setup, devices: devices, folder: folder)
        current = Mutex(try Self.start(firstMachine, agent: agent))
        do {
            try waitUntilReady(boots: 1)
        } catch {
            process.killAndWait()
            throw error
        }
    }

    private static func start(
        _ machine: GuestMachine, agent: Monitor<Agent>
    ) throws -> ChildProcess {
        try ChildProcess(
            machine.command(), environment: ["TMPDIR": "/dev/shm"],
            errorPath: machine.folder + "/errors.log",
            onLine: { line in
                agent.update { agent in
                    if let line {
                        agent.take(line)
                    } else {
                        agent.endedMachines.insert(machine.moveCount)
                    }
                }
            })
    }

    deinit {
        process.kill()
    }

    /// The machine's process, which `reboot` and `migrate` may replace.
    private var process: ChildProcess { current.withLock { $0 } }

    public var isRunning: Bool { process.isRunning }

    /// Runs a shell command in the guest and returns its output; throws the output when it fails.
    @discardableResult
    public func run(_ command: String, within timeout: Duration = .seconds(300)) throws -> String {
        let started = start(command)
        guard let status = started.waitForExit(within: timeout) else {
            throw failure("\"\(command)\" did not end within \(timeout), or the guest did")
        }
        guard status == 0 else { throw failure("\"\(command)\" failed with status \(status)") }
        return started.text
    }

    /// Starts a shell command in the guest.
    public func start(_ command: String) -> GuestCommand {
        let identifier = agent.update { agent in
            defer { agent.nextIdentifier += 1 }
            agent.outputs[agent.nextIdentifier] = GuestCommand.Output(boot: agent.readyCount)
            return agent.nextIdentifier
        }
        process.write(line: "\(identifier) \(command)")
        return GuestCommand(identifier: identifier, guest: self)
    }

    /// Reboots the guest's kernel in the same machine, and waits for its agent again.
    public func reboot() throws {
        let boots = agent.update { $0.readyCount }
        _ = start("reboot -f")
        do {
            try waitUntilReady(boots: boots + 1)
        } catch {
            guard hasFailedToReboot() else { throw error }
            let count = Self.restartCount.add(1, ordering: .relaxed).newValue
            print("note: \(setup): UML aborted in its reboot, \(count) in this run; started anew")
            agent.update { $0.endedMachines = [] }
            let machine = try Self.start(firstMachine, agent: agent)
            current.withLock { $0 = machine }
            try waitUntilReady(boots: boots + 1)
        }
    }

    /// Whether user-mode-linux has ended as it does when its timer ticks at the end of a reboot.
    ///
    /// It reboots by executing itself. Between the last task and that, it blocks interrupts, stops its
    /// timer, and lets interrupts come that have waited. When the process was kept from running in
    /// between, one has: the tick is then served on a stack that belongs to no task, and the kernel
    /// panics, after its console has gone: SIGABRT. No device has to do with it.
    private func hasFailedToReboot() -> Bool {
        guard setup.machine == .uml,
            process.waitForExit(within: .seconds(60)) == .killed(signal: SIGABRT)
        else { return false }
        // No log, no reboot.
        let console = try? String(contentsOfFile: folder + "/errors.log", encoding: .utf8)
        return console?.split(separator: "\n").last?.hasSuffix("reboot: Restarting system") == true
    }

    /// Has the guest move to a second machine by live migration, while what runs in it goes on.
    ///
    /// For QEMU. What the agent says in the moment of the move may be lost.
    ///
    /// - Parameters:
    ///   - devices: of the second machine; the same, but for who serves them.
    ///   - limit: for the whole of it.
    /// - Throws: what QEMU says when it comes to nothing; then the guest is where it was.
    public func migrate(to devices: GuestDevices, within limit: Duration) throws {
        let moves = agent.update { $0.moveCount }
        let place = "unix:\(folder)/incoming-\(moves).sock"
        let successor = try Self.start(
            GuestMachine(
                setup: setup, devices: devices.adding(qemuArguments: ["-incoming", place]),
                folder: folder, moveCount: moves + 1),
            agent: agent)
        do {
            // Listens when the machine is there, and so its place to come to.
            let there = try monitor(moveCount: moves + 1)
            try monitor(moveCount: moves).migrate(to: place, within: limit)
            try there.waitUntilRunning(within: limit)
        } catch {
            successor.killAndWait()
            throw failure("the guest did not move: \(error)")
        }
        agent.update { $0.moveCount += 1 }
        let left = current.withLock { process in
            defer { process = successor }
            return process
        }
        left.killAndWait()
    }

    /// Has the guest begin to move, and stay.
    public func beginMigration(within limit: Duration) throws {
        do {
            try monitor(moveCount: agent.update { $0.moveCount }).beginMigration(within: limit)
        } catch {
            throw failure("a move that was cancelled: \(error)")
        }
    }

    private func monitor(moveCount: Int) throws -> MachineMonitor {
        try MachineMonitor(
            path: GuestMachine.monitorPath(in: folder, moveCount: moveCount),
            within: .seconds(300))
    }

    /// Powers the guest off and waits for the machine's end.
    public func powerOff() throws {
        _ = start("sync; poweroff -f")
        guard process.waitForExit(within: .seconds(300)) != nil else {
            throw failure("the guest did not power off")
        }
        try FileManager.default.removeItem(atPath: folder)
    }

    /// `kill -9` of the machine, after a delay that lets the moment differ from one kill to the next.
    public func kill(after delay: Duration = .zero) {
        Thread.sleep(forTimeInterval: delay / .seconds(1))
        process.killAndWait()
        try? FileManager.default.removeItem(atPath: folder)  // Nothing is lost if it stays.
    }

    private func waitUntilReady(boots: Int) throws {
        let isReady = agent.wait(within: .seconds(300)) { agent in
            agent.readyCount >= boots ? true : agent.hasEnded ? false : nil
        }
        if isReady == true { return }
        let status = process.waitForExit(within: .seconds(2))
        let end = status.map { ": \($0)" } ?? " within 300 seconds\n" + processors()
        throw failure("the guest did not come up\(end)")
    }

    /// Where the processors of a QEMU are that still runs: in its firmware, its kernel, or halted.
    private func processors() -> String {
        guard setup.machine == .qemu else { return "" }
        do {
            let moves = agent.update { $0.moveCount }
            let path = GuestMachine.monitorPath(in: folder, moveCount: moves)
            return try MachineMonitor(path: path).processors()
        } catch {
            return "the machine does not answer: \(error)"
        }
    }

    /// An error that shows what the guest printed last.
    func failure(_ summary: String) -> GuestError {
        let logs = ["console.log", "errors.log"].compactMap { name in
            try? String(contentsOfFile: folder + "/" + name, encoding: .utf8)  // May not exist.
        }
        let lines =
            logs.flatMap { $0.split(separator: "\n").suffix(25).map(String.init) }
            + agent.update { $0.transcript.suffix(40) }
        return GuestError("\(setup): \(summary)\n" + lines.joined(separator: "\n"))
    }
}

extension Guest.Agent {
    /// Whether the machine that the guest is in has ended.
    var hasEnded: Bool { endedMachines.contains(moveCount) }

    /// Takes a line of the agent's: `@ready`, `@ID TEXT` or `@ID @exit STATUS`.
    mutating func take(_ line: String) {
        transcript.append(line)
        if line == "@ready" {
            readyCount += 1
            return
        }
        let fields = line.split(separator: " ", maxSplits: 1).map(String.init)
        guard fields.count == 2, let identifier = Int(fields[0].dropFirst()) else { return }
        if fields[1].hasPrefix("@exit ") {
            outputs[identifier]?.status = Int(fields[1].dropFirst(6))
        } else {
            outputs[identifier]?.lines.append(fields[1])
        }
    }
}
