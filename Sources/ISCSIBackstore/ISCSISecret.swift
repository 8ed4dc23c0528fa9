// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// A CHAP secret: shown nowhere, not even by `print` or a debugger's dump.
public struct ISCSISecret: Equatable, Sendable {
    /// Bytes that the library stores at most.
    public static let maximumByteCount = 255

    /// The secret itself, for the library only.
    let text: String

    /// Takes a secret of 1 to 255 bytes without NUL.
    public init(_ text: String) throws(ISCSIError) {
        guard (1...Self.maximumByteCount).contains(text.utf8.count), !text.utf8.contains(0) else {
            throw .illegalSecret(byteCount: text.utf8.count, limit: Self.maximumByteCount)
        }
        self.text = text
    }

    /// Reads the first line of a file.
    ///
    /// - Parameter path: for example a credential that the service manager has laid out.
    /// - Throws: the errno, or that the line is empty or too long.
    public init(file path: String) throws(ISCSIError) {
        let text: String
        do {
            text = try FirstBytes.bytes(of: path, upTo: 4096)
        } catch {
            throw .unreadableSecret(path: path, reason: "\(error)")
        }
        try self.init(String(text.prefix { !$0.isNewline }))
    }

    /// Takes the value of an environment variable.
    public init(environment name: String) throws(ISCSIError) {
        guard let value = ProcessEnvironment.variable(name) else {
            throw .unsetSecret(variable: name)
        }
        try self.init(value)
    }
}

extension ISCSISecret: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "(secret)" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
