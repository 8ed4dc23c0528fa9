// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// A loop device over a file of 16 MiB: one that the part `block-devices` of Tests/run has made, or
/// one that the test makes itself, if whoever runs it is root, or may be without a password.
final class LoopDevice {
    let file: TestFile
    /// What lies behind a device of the test's own.
    private let folder: TestFolder?

    /// The device that the environment names BLOCK_DEVICE_ and `name`, or a new one.
    init(_ name: String, _ arguments: [String]) throws {
        if let path = ProcessInfo.processInfo.environment["BLOCK_DEVICE_\(name)"] {
            folder = nil
            file = TestFile(path: path)
            return
        }
        let folder = try TestFolder()
        let image = try folder.file(byteCount: 16 << 20, byteAt: nil)
        let path = try Self.run(["losetup", "--find", "--show"] + arguments + [image.path])
        file = TestFile(path: path)
        self.folder = folder
        if geteuid() != 0 { try Self.run(["chown", "\(getuid())", path]) }
    }

    deinit {
        if folder == nil { return }
        // The test has failed already if it could not be made.
        _ = try? Self.run(["losetup", "--detach", file.path])
    }

    /// Runs a command as root.
    ///
    /// - Returns: the line that it printed.
    @discardableResult
    private static func run(_ command: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = (geteuid() == 0 ? [] : ["sudo", "-n"]) + command
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let text = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        try #require(
            process.terminationStatus == 0, "not root: Tests/run block-devices makes the devices")
        return String(decoding: text, as: UTF8.self)
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }
}
