// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc

/// How a process ended.
public enum ExitStatus: Equatable, Sendable {
    case exited(Int32)
    case killed(signal: Int32)
}

/// A program that the tests started: its input, the lines of its output, its end.
public final class ChildProcess: Sendable {
    public let processID: pid_t
    private let input: FileHandle
    private let progress = Monitor(Progress())

    private struct Progress {
        var status: ExitStatus?
        var outputEnded = false
    }

    /// Starts `arguments` with the kernel's promise to kill it when this process ends.
    ///
    /// - Parameters:
    ///   - arguments: the program, found in PATH, and its arguments.
    ///   - environment: what is set beside the environment of this process.
    ///   - errorPath: the file that standard error is appended to.
    ///   - onLine: called for each line of standard output, on a thread of its own, and once with nil
    ///     at its end.
    /// - Throws: `GuestError` when the program cannot be started.
    public init(
        _ arguments: [String], environment: [String: String] = [:], errorPath: String,
        onLine: @escaping @Sendable (String?) -> Void
    ) throws {
        let started = try Spawner.shared.spawn(
            ["setpriv", "--pdeathsig", "KILL", "--"] + arguments, environment: environment,
            errorPath: errorPath,
            onExit: { [progress] status in progress.update { $0.status = status } })
        processID = started.processID
        input = started.input
        let output = started.output
        detachThread { [progress] in
            Self.readLines(from: output, onLine)
            try? output.close()  // Nobody else has it.
            onLine(nil)
            progress.update { $0.outputEnded = true }
        }
    }

    /// Foundation itself closes no handle of a pipe: they would add up.
    deinit {
        try? input.close()  // Nobody else has it.
    }

    /// Writes a line to standard input; a program that is gone misses it silently.
    func write(line: String) {
        try? input.write(contentsOf: Data((line + "\n").utf8))  // Its end is seen elsewhere.
    }

    /// Sends a signal, if the process still runs.
    public func send(signal: Int32) {
        progress.update { progress in
            if progress.status == nil { Glibc.kill(processID, signal) }
        }
    }

    /// The exit status, once the process has ended and all its output was read; nil when that was
    /// not so within `timeout`.
    public func waitForExit(within timeout: Duration) -> ExitStatus? {
        progress.wait(within: timeout) { $0.outputEnded ? $0.status : nil }
    }

    /// Sends SIGTERM, and returns how the process ended; nil when it took longer than `limit`.
    ///
    /// The time in which this machine kept anybody waiting for a processor or a disk is not counted: it
    /// says nothing about the process. A minute is too long on any machine.
    public func terminate(within limit: Duration) -> ExitStatus? {
        let clock = SuspendingClock()
        let (start, waitedBefore) = (clock.now, MachineLoad.waitedSinceBoot())
        send(signal: SIGTERM)
        let status = waitForExit(within: limit + .seconds(60))
        let taken = clock.now - start
        if taken <= limit { return status }
        let waited = MachineLoad.waitedSinceBoot() - waitedBefore
        print("the end of process \(processID) took \(taken); the machine was busy for \(waited)")
        return taken - waited <= limit ? status : nil
    }

    public var isRunning: Bool {
        progress.update { $0.status == nil }
    }

    /// Kills the process, with the helpers it has started.
    ///
    /// user-mode-linux has helpers that would outlive it, and hold its output open. Foundation starts
    /// each process as the leader of a group of its own.
    func kill() {
        progress.update { progress in
            if progress.status == nil || !progress.outputEnded { Glibc.kill(-processID, SIGKILL) }
        }
    }

    /// Kills the process with its helpers and waits for its end.
    public func killAndWait() {
        kill()
        _ = waitForExit(within: .seconds(60))
    }

    /// Runs a program to its end and returns its output; throws the output when the program fails.
    static func output(of arguments: [String]) throws -> String {
        let lines = Monitor<[String]>([])
        let process = try ChildProcess(arguments, errorPath: "/dev/null") { line in
            if let line { lines.update { $0.append(line) } }
        }
        let status = process.waitForExit(within: .seconds(300))
        process.killAndWait()
        let output = lines.update { $0.joined(separator: "\n") }
        guard status == .exited(0) else {
            throw GuestError("\(arguments.joined(separator: " ")) failed: \(output)")
        }
        return output
    }

    private static func readLines(from output: FileHandle, _ onLine: (String) -> Void) {
        var pending = Data()
        while true {
            let data = output.availableData
            if data.isEmpty { return }
            pending += data
            while let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: pending[pending.startIndex..<end], as: UTF8.self)
                onLine(line.trimmingCharacters(in: .controlCharacters))
                pending = pending[(end + 1)...]
            }
        }
    }
}
