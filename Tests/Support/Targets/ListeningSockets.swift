// SPDX-License-Identifier: Apache-2.0

import Foundation

/// The TCP ports that somebody listens on, as the kernel tells.
public enum ListeningSockets {
    /// One listening socket: the IPv4 address as the kernel prints it, for example `0100007F` for
    /// 127.0.0.1, and the port.
    public struct Entry: Hashable, Sendable {
        public let address: String
        public let port: UInt16
    }

    /// Every listening IPv4 socket of a process's network namespace, which is ours when none is
    /// given.
    public static func all(ofProcess process: Int32? = nil) -> Set<Entry> {
        let path = "/proc/\(process.map { "\($0)" } ?? "self")/net/tcp"
        guard let table = try? String(contentsOfFile: path, encoding: .utf8) else {
            return []
        }
        let listening = "0A"
        return Set(
            table.split(separator: "\n").dropFirst().compactMap { line -> Entry? in
                let fields = line.split(separator: " ")
                guard fields.count > 3, fields[3] == listening else { return nil }
                let local = fields[1].split(separator: ":")
                guard local.count == 2, let port = UInt16(local[1], radix: 16) else { return nil }
                return Entry(address: String(local[0]), port: port)
            })
    }

    /// A port below the ephemeral ones that nobody listens on.
    public static func freePort() -> UInt16 {
        let taken = Set(all().map(\.port))
        while true {
            let port = UInt16.random(in: 20000..<32000)
            if !taken.contains(port) { return port }
        }
    }
}
