// SPDX-License-Identifier: Apache-2.0

import Glibc
public import SystemPackage

/// Files that are read or written whole: configurations, secrets, figures.
public enum SmallFile {
    /// Reads a file.
    ///
    /// The corresponding C functions are `open` and `read`.
    ///
    /// - Parameters:
    ///   - path: the file's name.
    ///   - limit: bytes that it may have at most.
    /// - Returns: all its bytes.
    /// - Throws: the errno; EFBIG for a file that is larger.
    public static func read(_ path: String, limit: Int) throws(Errno) -> [UInt8] {
        do {
            let file = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
            return try file.closeAfter { try read(file, limit: limit) }
        } catch {
            throw error as? Errno ?? .ioError
        }
    }

    private static func read(_ file: FileDescriptor, limit: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let room = min(1 << 16, limit + 1 - bytes.count)
            // SAFETY: the kernel writes within the buffer, for the length of the call.
            let part = try unsafe [UInt8](unsafeUninitializedCapacity: room) { buffer, count in
                count = try unsafe file.read(into: UnsafeMutableRawBufferPointer(buffer))
            }
            if part.isEmpty { return bytes }
            bytes += part
            if bytes.count > limit { throw Errno.fileTooLarge }
        }
    }

    /// Puts a file with these bytes in place of the one that is there, so that a reader sees either
    /// whole.
    ///
    /// The corresponding C functions are `open`, `write`, `fsync` and `rename`.
    ///
    /// - Parameters:
    ///   - path: the file's name.
    ///   - bytes: all of the new one.
    ///   - permissions: of the new one.
    ///   - isDurable: whether the new one is on the medium when this returns, and a crash finds one
    ///     of the two.
    /// - Throws: the errno.
    public static func replace(
        _ path: String, with bytes: [UInt8],
        permissions: FilePermissions = [.ownerReadWrite, .groupRead, .otherRead],
        isDurable: Bool = false
    ) throws(Errno) {
        let draft = path + ".new"
        do {
            let file = try FileDescriptor.open(
                FilePath(draft), .writeOnly, options: [.create, .truncate, .closeOnExec],
                permissions: permissions)
            try file.closeAfter {
                try file.writeAll(bytes)
                if isDurable { try systemCall { fsync(file.rawValue) } }
            }
            // SAFETY: both paths are passed as C strings for the length of the call.
            try systemCall { unsafe rename(draft, path) }
            if isDurable { try synchronizeFolder(of: FilePath(path)) }
        } catch {
            throw error as? Errno ?? .ioError
        }
    }

    /// Has a file's name on the medium.
    private static func synchronizeFolder(of path: FilePath) throws {
        let folder = path.removingLastComponent()
        let descriptor = try FileDescriptor.open(
            folder.isEmpty ? "." : folder, .readOnly, options: [.directory, .closeOnExec])
        try descriptor.closeAfter { _ = try systemCall { fsync(descriptor.rawValue) } }
    }

    /// Removes a file, if it is there.
    ///
    /// The corresponding C function is `unlink`.
    public static func remove(_ path: String) {
        // SAFETY: the path is passed as a C string for the length of the call.
        _ = unsafe unlink(path)
    }
}
