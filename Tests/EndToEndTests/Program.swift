// SPDX-License-Identifier: Apache-2.0

import Foundation
import Guests
import Synchronization

/// One run of the program with some command line, in a folder of its own.
final class Program {
    let folder: String
    private let process: ChildProcess
    private let output: Output

    /// The lines that came on standard output.
    private final class Output: Sendable {
        let lines = Mutex<[String]>([])
    }

    /// Starts the program.
    ///
    /// - Parameters:
    ///   - arguments: what follows the program's name; `@/` stands for the folder.
    ///   - name: another name that the program is called by, through a link in the folder.
    ///   - wrapper: a program, with its arguments, that executes ours, whose path and arguments follow.
    ///   - environment: set beside what is set already.
    ///   - prepare: makes files in the folder before the start.
    /// - Throws: when the folder or the process cannot be made.
    init(
        _ arguments: [String], named name: String? = nil, wrapper: [String] = [],
        environment: [String: String] = [:],
        prepare: (String) throws -> Void = { _ in }
    ) throws {
        let folder = try Workspace.makeRunFolder()
        self.folder = folder
        try prepare(folder)
        func inFolder(_ text: String) -> String {
            text.replacingOccurrences(of: "@/", with: folder + "/")
        }
        var path = Workspace.daemon
        if let name {
            path = folder + "/" + name
            try FileManager.default.createSymbolicLink(
                atPath: path, withDestinationPath: Workspace.daemon)
        }
        let output = Output()
        self.output = output
        process = try ChildProcess(
            wrapper.map(inFolder) + [path] + arguments.map(inFolder),
            environment: environment.mapValues(inFolder), errorPath: folder + "/errors",
            onLine: { line in
                if let line { output.lines.withLock { $0.append(line) } }
            })
    }

    deinit {
        process.killAndWait()
        try? FileManager.default.removeItem(atPath: folder)  // The next run has its own.
    }

    /// What the program has written to standard error.
    var errors: String {
        (try? String(contentsOfFile: folder + "/errors", encoding: .utf8)) ?? ""  // Nothing yet.
    }

    /// The lines that the program has written to standard output.
    var lines: [String] { output.lines.withLock { $0 } }

    func exitStatus() -> ExitStatus? {
        process.waitForExit(within: .seconds(120))
    }

    var processID: pid_t { process.processID }

    func terminate() {
        process.send(signal: SIGTERM)
    }

    /// Sends SIGTERM, and returns how the program ended; nil when it took longer than `limit`, on a
    /// machine that has nothing else to do.
    func terminate(within limit: Duration) -> ExitStatus? {
        process.terminate(within: limit)
    }

    var footprint: ProcessFootprint {
        get throws { try ProcessFootprint(of: process.processID) }
    }

    /// What the program holds once it has nothing left to do.
    ///
    /// - Throws: when it does not come to rest.
    var settledFootprint: ProcessFootprint {
        get throws { try ProcessFootprint.settled(of: process.processID) }
    }

    /// Waits until a socket at the path in the folder takes connections.
    func waitUntilListening(_ name: String) throws {
        for _ in 0..<20_000 {
            if canConnect(name) { return }
            usleep(5_000)
        }
        throw GuestError("nobody listens at \(name): \(errors)")
    }

    func canConnect(_ name: String) -> Bool {
        (try? FrontEndProbe.connect(path: folder + "/" + name)) != nil  // Not yet.
    }

    func exists(_ name: String) -> Bool {
        FileManager.default.fileExists(atPath: folder + "/" + name)
    }

    /// Makes a file with a text.
    static func writeFile(_ path: String, _ text: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    }

    /// Makes a file of so many bytes, all of them zero.
    static func makeFile(_ path: String, byteCount: UInt64) throws {
        guard FileManager.default.createFile(atPath: path, contents: nil) else {
            throw GuestError("cannot write \(path)")
        }
        try resizeFile(path, byteCount: byteCount)
    }

    /// Gives a file another size.
    static func resizeFile(_ path: String, byteCount: UInt64) throws {
        guard let file = FileHandle(forWritingAtPath: path) else {
            throw GuestError("cannot write \(path)")
        }
        try file.truncate(atOffset: byteCount)
        try file.close()
    }
}
