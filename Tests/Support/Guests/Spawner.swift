// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc

/// What could not be started or did not happen in time.
public struct GuestError: Error, CustomStringConvertible {
    public let description: String

    public init(_ description: String) {
        self.description = description
    }
}

/// Starts processes, all from one thread that never ends: the kernel ties "kill me when my parent
/// dies" to the thread that forked.
final class Spawner: Sendable {
    struct Started: Sendable {
        let processID: pid_t
        let input: FileHandle
        let output: FileHandle
    }

    private struct Request: Sendable {
        let start: @Sendable () -> Void
    }

    static let shared = Spawner()
    private let requests = Monitor<[Request]>([])

    private init() {
        signal(SIGPIPE, SIG_IGN)
        detachThread { [requests] in
            while true {
                let request = requests.wait(within: .seconds(3600)) { requests in
                    requests.isEmpty ? nil : requests.removeFirst()
                }
                request?.start()
            }
        }
    }

    func spawn(
        _ arguments: [String], environment: [String: String], errorPath: String,
        onExit: @escaping @Sendable (ExitStatus) -> Void
    ) throws -> Started {
        let answer = Monitor<Result<Started, GuestError>?>(nil)
        let request = Request {
            let result = ProcessStart.alone {
                Self.spawnHere(arguments, environment, errorPath, onExit)
            }
            answer.update { $0 = result }
        }
        requests.update { $0.append(request) }
        guard let result = answer.wait(within: .seconds(120), until: { $0 }) else {
            throw GuestError("\(arguments) did not start in 120 seconds")
        }
        return try result.get()
    }

    private static func spawnHere(
        _ arguments: [String], _ environment: [String: String], _ errorPath: String,
        _ onExit: @escaping @Sendable (ExitStatus) -> Void
    ) -> Result<Started, GuestError> {
        let input = Pipe()
        let output = Pipe()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = input
        process.standardOutput = output
        // SAFETY: the path is passed as a NUL-terminated string that lives through the call.
        let errors = unsafe open(errorPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        defer { close(errors) }
        process.standardError = FileHandle(fileDescriptor: errors, closeOnDealloc: false)
        process.terminationHandler = { process in
            let code = process.terminationStatus
            onExit(process.terminationReason == .exit ? .exited(code) : .killed(signal: code))
        }
        do {
            try process.run()
        } catch {
            return .failure(GuestError("\(arguments): \(error)"))
        }
        return .success(
            Started(
                processID: process.processIdentifier, input: input.fileHandleForWriting,
                output: output.fileHandleForReading))
    }
}
