// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxIO
import SystemPackage

/// A file or block device that was opened and locked to be a disk.
struct OpenedFile: ~Copyable, Sendable {
    let descriptor: OwnedDescriptor
    let path: String
    let status: stat
    /// Whether the file was opened with O_DIRECT.
    var isDirect: Bool { fcntl(descriptor.rawValue, F_GETFL) & cl_o_direct != 0 }

    /// A number that no two files or devices have at the same time, as far as numbers go.
    var identity: UInt64 {
        // A device may have several nodes.
        status.isBlockDevice
            ? UInt64(status.st_rdev) | 1 << 63 : UInt64(status.st_ino) ^ UInt64(status.st_dev) << 20
    }

    /// Opens, and locks unless that is to be done later.
    ///
    /// A writable disk takes its file for itself; read-only disks share one, and so do disks that
    /// are shared, with each other only. The lock belongs to the descriptor and goes with it, however
    /// the process ends.
    init(
        path: String, readOnly: Bool, isShared: Bool, locks: Bool
    ) throws(FileStoreError) {
        try Self.checkKind(of: Self.status(path: path), path: path)
        let flags = (readOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC
        // Refused while the kernel itself uses the device; means nothing for other files.
        let isBlockDevice = try Self.status(path: path).isBlockDevice
        let isDevice = isBlockDevice && !readOnly
        var opened = try Self.open(
            path, flags: isDevice ? flags | O_EXCL : flags, readOnly: readOnly)
        // That keeps other services out too, so it was a look only.
        if isDevice && isShared {
            opened = try Self.open(path, flags: flags, readOnly: readOnly)
        }
        let number = opened.rawValue
        // SAFETY: fstat fills the one value that it is given.
        let status = try unsafe Self.status(path: path) { unsafe fstat(number, $0) }
        try Self.checkKind(of: status, path: path)
        if locks { try Self.lock(number, path: path, readOnly: readOnly, isShared: isShared) }
        descriptor = opened
        self.path = path
        self.status = status
    }

    /// Has transfers go through the page cache, where any alignment will do.
    func useThePageCache() throws(FileStoreError) {
        let number = descriptor.rawValue
        do throws(Errno) {
            let flags = try systemCall { fcntl(number, F_GETFL) }
            try systemCall { fcntl(number, F_SETFL, flags & ~cl_o_direct) }
        } catch {
            throw .system(path: path, operation: "use the page cache for", error)
        }
    }

    /// Formats of images by the bytes that they begin with.
    private static let marks: [(format: String, bytes: [UInt8])] = [
        ("qcow2", [0x51, 0x46, 0x49, 0xFB]), ("vmdk", Array("KDMV".utf8)),
        ("vhdx", Array("vhdxfile".utf8)), ("vpc", Array("conectix".utf8)),
    ]

    /// The format of image that the file begins as; nil for none, or when it cannot be read.
    var imageFormat: String? {
        let start = AlignedBuffer(byteCount: 4096)
        let pieces = start.pieces(byteCount: 4096)
        // SAFETY: preadv fills the buffer, or less of it.
        let count = unsafe preadv(descriptor.rawValue, pieces.base, 1, 0)
        guard count >= 8 else { return nil }
        return Self.marks.first { mark in
            mark.bytes.indices.allSatisfy { start[$0] == mark.bytes[$0] }
        }?.format
    }

    /// Gives the descriptor, and with it the lock, to another owner.
    consuming func takeDescriptor() -> OwnedDescriptor { descriptor }

    /// Opens past the page cache where the file system lets it.
    private static func open(
        _ path: String, flags: Int32, readOnly: Bool
    ) throws(FileStoreError) -> OwnedDescriptor {
        do throws(Errno) {
            do throws(Errno) {
                return try open(path, flags | cl_o_direct)
            } catch .invalidArgument {
                return try open(path, flags)
            }
        } catch {
            throw refusal(error, path: path, readOnly: readOnly)
        }
    }

    private static func open(_ path: String, _ flags: Int32) throws(Errno) -> OwnedDescriptor {
        // SAFETY: the path is passed as a C string for the length of the call.
        OwnedDescriptor(taking: try systemCall { unsafe Glibc.open(path, flags) })
    }

    private static func refusal(
        _ error: Errno, path: String, readOnly: Bool
    ) -> FileStoreError {
        switch error {
        case .noSuchFileOrDirectory, .notDirectory: .noSuchFile(path: path)
        case .permissionDenied, .notPermitted:
            .permissionDenied(path: path, readOnly: readOnly)
        case .readOnlyFileSystem: .readOnlyMedium(path: path)
        case .resourceBusy: .inUse(path: path)
        default: .system(path: path, operation: "open", error)
        }
    }

    private static func status(path: String) throws(FileStoreError) -> stat {
        // SAFETY: the path is passed as a C string for the length of the call.
        try unsafe status(path: path) { unsafe stat(path, $0) }
    }

    private static func status(
        path: String, _ call: (UnsafeMutablePointer<stat>) -> Int32
    ) throws(FileStoreError) -> stat {
        var status = stat()
        do throws(Errno) {
            // SAFETY: the call fills the one local that it is given.
            try systemCall { unsafe call(&status) }
        } catch {
            throw refusal(error, path: path, readOnly: true)
        }
        return status
    }

    /// Before the file is opened, because opening a pipe would wait for its other end.
    private static func checkKind(of status: stat, path: String) throws(FileStoreError) {
        let kind: String
        switch status.st_mode & S_IFMT {
        case S_IFREG, S_IFBLK: return
        case S_IFDIR: kind = "a directory"
        case S_IFCHR: kind = "a character device"
        case S_IFIFO: kind = "a pipe"
        case S_IFSOCK: kind = "a socket"
        default: kind = "something else"
        }
        throw .notADisk(path: path, kind: kind)
    }

    /// The byte that disks for reading lock and shared ones do not, and the other way round.
    private static let readersByte: Int64 = 1 << 62
    private static let sharersByte: Int64 = 1 << 62 + 1

    static func lock(
        _ descriptor: Int32, path: String, readOnly: Bool, isShared: Bool
    ) throws(FileStoreError) {
        do throws(Errno) {
            if isShared {
                try lockAmong(descriptor, byte: sharersByte, others: readersByte)
            } else if readOnly {
                try lockAmong(descriptor, byte: readersByte, others: sharersByte)
            } else {
                try systemCall { cl_lock_whole_file(descriptor, 1) }
            }
        } catch {
            switch error {
            case .resourceTemporarilyUnavailable, .permissionDenied:
                throw .locked(path: path, readOnly: readOnly)
            case .noLocks, .notSupported, .noFunction, .invalidArgument:
                // A file system without locks keeps nobody out; there is nothing to wait for.
                return
            default:
                throw .system(path: path, operation: "lock", error)
            }
        }
    }

    /// Locks with those of the same kind and without those of the other.
    ///
    /// Each takes its own lock before it looks at the others', so that of two that come at the same
    /// time at most one gets in.
    private static func lockAmong(
        _ descriptor: Int32, byte: Int64, others: Int64
    ) throws(Errno) {
        try systemCall { cl_lock_range(descriptor, 0, readersByte, 0, 0) }
        try systemCall { cl_lock_range(descriptor, byte, 1, 0, 0) }
        if try systemCall({ cl_is_range_locked(descriptor, others, 1) }) == 1 {
            throw .resourceTemporarilyUnavailable
        }
    }

    /// Where those who share the file agree on what else they share.
    private static let agreementStart: Int64 = sharersByte + 1

    /// Refuses to share the file with somebody who keeps what belongs to it elsewhere.
    ///
    /// - Parameter place: a number of the place where this one keeps it.
    /// - Throws: `keptElsewhere`.
    func agree(onPlace place: UInt64) throws(FileStoreError) {
        do throws(Errno) {
            try LockAgreement.make(
                on: place, in: descriptor.rawValue, from: Self.agreementStart)
        } catch .resourceTemporarilyUnavailable {
            throw .keptElsewhere(path: path)
        } catch {
            // A file system without locks keeps nobody out.
        }
    }
}

extension stat {
    var isBlockDevice: Bool { st_mode & S_IFMT == S_IFBLK }
}
