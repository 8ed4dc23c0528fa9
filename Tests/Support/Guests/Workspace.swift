// SPDX-License-Identifier: Apache-2.0
import Foundation
import Synchronization

/// Where things lie: the checkout, the built daemon, the cache with the guest's images, and a folder
/// for each run.
public enum Workspace {
    private static let nextNumber = Atomic<Int>(0)

    /// The root of the checkout.
    public static let checkout = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    /// The cache folder, by the rule of `Tests/setup`.
    public static let cache: String = {
        let environment = ProcessInfo.processInfo.environment
        if let path = environment["VHOSTD_CACHE"] { return path }
        let base = environment["XDG_CACHE_HOME"] ?? NSHomeDirectory() + "/.cache"
        return base + "/vhostd"
    }()

    /// The daemon under test: the release build, unless VHOSTD_BINARY names another.
    public static let daemon: String =
        ProcessInfo.processInfo.environment["VHOSTD_BINARY"]
        ?? checkout + "/.build/release/vhostd"

    /// A file of the guest image.
    public static func image(_ name: String) throws -> String {
        let path = cache + "/guest/" + name
        guard FileManager.default.fileExists(atPath: path) else {
            throw GuestError("\(path) is missing: run Tests/setup")
        }
        return path
    }

    /// A new folder for sockets, disks and logs, with a path short enough for a socket's address.
    public static func makeRunFolder() throws -> String {
        let number = nextNumber.add(1, ordering: .relaxed).newValue
        let identifier = ProcessInfo.processInfo.processIdentifier
        let path = cache + "/run/\(identifier)-\(number)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }
}
