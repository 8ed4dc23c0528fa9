// SPDX-License-Identifier: Apache-2.0
import Foundation

/// A raw disk image, sparse at first.
public struct DiskImage: Sendable {
    public let path: String

    /// Creates the file.
    public init(path: String, mebibytes: UInt64) throws {
        self.path = path
        guard FileManager.default.createFile(atPath: path, contents: nil),
            let file = FileHandle(forWritingAtPath: path)
        else { throw GuestError("cannot write \(path)") }
        try file.truncate(atOffset: mebibytes << 20)
        try file.close()
    }

    /// Bytes that the file occupies, which trimming makes fewer.
    public func allocatedByteCount() throws -> UInt64 {
        let fields = try ChildProcess.output(of: ["stat", "-c", "%b", path])
        return (UInt64(fields.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0) * 512
    }

    /// Checks the ext4 file system of the first partition, as the `disk` scenario lays it out.
    public func checkFileSystem() throws {
        _ = try ChildProcess.output(of: ["/sbin/e2fsck", "-f", "-n", path + "?offset=1048576"])
    }
}
