// SPDX-License-Identifier: Apache-2.0

import Foundation

/// The TCP ports that somebody listens on, as the kernel tells.
public enum ListeningSockets {
    /// One listening socket: the address as the kernel prints it, for example `0100007F` for
    /// 127.0.0.1, and the port.
    public struct Entry: Hashable, Sendable {
        public let address: String
        public let port: UInt16

        /// Whether it takes what comes to any address of the machine.
        var isOpenToAll: Bool { address.allSatisfy { $0 == "0" } }
    }

    /// Every listening socket of our network namespace.
    public static func all() -> Set<Entry> {
        Set(table(of: "self").map { $0.entry })
    }

    /// Every listening socket that a process holds.
    static func all(heldBy process: Int32) -> Set<Entry> {
        let folder = "/proc/\(process)/fd"
        // A process that has ended holds none.
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        let held = Set(
            names.compactMap {
                try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\($0)")
            })
        return Set(
            table(of: "\(process)").filter { held.contains("socket:[\($0.inode)]") }
                .map { $0.entry })
    }

    /// The listening sockets of a process's network namespace, with their inodes.
    private static func table(of process: String) -> [(entry: Entry, inode: String)] {
        let lines = ["tcp", "tcp6"].flatMap { family in
            let path = "/proc/\(process)/net/\(family)"
            let text = try? String(contentsOfFile: path, encoding: .utf8)
            return (text ?? "").split(separator: "\n").dropFirst()
        }
        let listening = "0A"
        return lines.compactMap { line in
            let fields = line.split(separator: " ")
            guard fields.count > 9, fields[3] == listening else { return nil }
            let local = fields[1].split(separator: ":")
            guard local.count == 2, let port = UInt16(local[1], radix: 16) else { return nil }
            return (Entry(address: String(local[0]), port: port), String(fields[9]))
        }
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
