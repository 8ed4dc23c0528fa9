// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// A small file that one process at a time works with, and that a crash finds either as it was or as
/// it was to become.
///
/// The lock is on a file of its own beside it, because the file is replaced with each change.
///
/// Belongs to one thread at a time, whichever made it.
public final class LockedFile {
    public let path: String
    private let lock: OwnedDescriptor

    /// Takes the lock, which goes with the process, however that ends.
    ///
    /// The corresponding C function is `fcntl` with F_OFD_SETLK.
    ///
    /// - Throws: EAGAIN when another process has it.
    public init(path: String) throws(Errno) {
        self.path = path
        let flags = O_RDWR | O_CREAT | O_CLOEXEC
        let lockPath = path + ".lock"
        // SAFETY: the path is passed as a C string for the length of the call.
        let descriptor = try systemCall { unsafe open(lockPath, flags, 0o600) }
        lock = OwnedDescriptor(taking: descriptor)
        try systemCall { cl_lock_whole_file(descriptor, 1) }
    }

    /// Reads the file.
    ///
    /// The corresponding C functions are `open` and `read`.
    ///
    /// - Returns: its bytes; nil when there is none.
    /// - Throws: EFBIG for one of more than `limit` bytes.
    public func read(limit: Int) throws(Errno) -> [UInt8]? {
        do {
            let file = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
            return try file.closeAfter { try Self.read(file, limit: limit) }
        } catch Errno.noSuchFileOrDirectory {
            return nil
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

    /// Puts other bytes in the file's place; they are on the medium when this returns.
    ///
    /// The corresponding C functions are `open`, `write`, `fsync` and `rename`.
    public func replace(with bytes: [UInt8]) throws(Errno) {
        let draft = path + ".new"
        do {
            let file = try FileDescriptor.open(
                FilePath(draft), .writeOnly, options: [.create, .truncate, .closeOnExec],
                permissions: .ownerReadWrite)
            try file.closeAfter {
                try file.writeAll(bytes)
                try systemCall { fsync(file.rawValue) }
            }
            let target = path
            // SAFETY: both paths are passed as C strings for the length of the call.
            try systemCall { unsafe rename(draft, target) }
            let folder = try FileDescriptor.open(
                FilePath(path).removingLastComponent().orWorkingFolder, .readOnly,
                options: [.directory, .closeOnExec])
            try folder.closeAfter { _ = try systemCall { fsync(folder.rawValue) } }
        } catch {
            throw error as? Errno ?? .ioError
        }
    }
}

extension FilePath {
    fileprivate var orWorkingFolder: FilePath { isEmpty ? "." : self }
}
