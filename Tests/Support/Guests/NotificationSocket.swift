// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc

/// The service manager's side of sd_notify(3): the socket that NOTIFY_SOCKET names.
public final class NotificationSocket: Sendable {
    public let path: String
    private let socket: StreamSocket

    public init(path: String) throws {
        self.path = path
        let type = Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        socket = StreamSocket(descriptor: Glibc.socket(AF_UNIX, type, 0))
        try StreamAddress.unix(path: path).bind(socket)
    }

    /// Waits for a message that holds the line `READY=1`.
    func waitUntilReady(within timeout: Duration) throws {
        try wait(for: "READY=1", within: timeout)
    }

    /// Waits for a message that holds a line.
    public func wait(for line: String, within timeout: Duration) throws {
        try socket.limitBlocking(seconds: max(1, Int(timeout.components.seconds)))
        var bytes = [UInt8](repeating: 0, count: 4096)
        while true {
            // SAFETY: recv is told the array's count.
            let count = unsafe recv(socket.descriptor, &bytes, bytes.count, 0)
            guard count > 0 else { throw GuestError("no \(line) within \(timeout)") }
            let lines = String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n")
            if lines.contains(Substring(line)) { return }
        }
    }
}
