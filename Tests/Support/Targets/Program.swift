// SPDX-License-Identifier: Apache-2.0

import Foundation
import Guests

/// What a target could not be made to do.
public struct TargetError: Error, CustomStringConvertible {
    public let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// Programs of the system, by their names.
public enum Program {
    /// A user's PATH need not hold the system's tools.
    static let path =
        (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin") + ":/usr/sbin:/sbin"

    static func process(_ arguments: [String]) -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(["PATH": path]) { $1 }
        return process
    }

    /// Runs a program to its end.
    ///
    /// - Returns: what it wrote to standard output and standard error.
    /// - Throws: the same, when it failed.
    @discardableResult
    public static func run(_ arguments: [String]) throws -> String {
        let process = process(arguments)
        process.standardInput = FileHandle.nullDevice
        let ended = DispatchSemaphore(value: 0)
        process.terminationHandler = { _ in ended.signal() }
        let output = try ProcessStart.alone {
            let output = Pipe()
            process.standardOutput = output
            process.standardError = output
            try process.run()
            return output
        }
        let text = String(
            decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        // Foundation closes it at no time.
        try output.fileHandleForReading.close()
        ended.wait()
        guard process.terminationStatus == 0 else {
            throw TargetError("\(arguments.joined(separator: " ")) failed: \(text)")
        }
        return text
    }
}
