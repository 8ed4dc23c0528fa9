// SPDX-License-Identifier: Apache-2.0
import Foundation

/// Where things lie: the checkout, the built daemon, the cache with the guest's images, and a folder
/// for each run.
public enum Workspace {
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

    /// The folder of the guest image: what VHOSTD_GUEST names, or what the cache has now; the same for the
    /// whole run, even when another checkout sets up another image in the same cache meanwhile.
    private static let guest =
        ProcessInfo.processInfo.environment["VHOSTD_GUEST"]
        ?? URL(fileURLWithPath: cache + "/guest").resolvingSymlinksInPath().path

    /// A file of the guest image.
    public static func image(_ name: String) throws -> String {
        let path = guest + "/" + name
        guard FileManager.default.fileExists(atPath: path) else {
            throw GuestError("\(path) is missing: run Tests/setup")
        }
        return path
    }

    /// A new folder for sockets, disks and logs, with a path short enough for a socket's address.
    ///
    /// Nobody else has it, nor had it before: runs that were killed leave theirs behind, and numbers
    /// of processes come again.
    public static func makeRunFolder() throws -> String {
        let parent = cache + "/run"
        try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
        var name = Array((parent + "/XXXXXX").utf8CString)
        // SAFETY: mkdtemp writes the letters of the name, which is an array of our own and ends in 0.
        let isMade = unsafe name.withUnsafeMutableBufferPointer {
            unsafe $0.baseAddress.map { unsafe mkdtemp($0) != nil } ?? false
        }
        guard isMade else { throw GuestError("no folder in \(parent): errno \(errno)") }
        return String(decoding: name.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
