// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// A small file that processes change one after the other, and that a crash finds either as it was
/// or as it was to become.
///
/// Each change puts another file in its place; so what is locked is a file of its own beside it,
/// `PATH.lock`, which stays. Byte 0 of it is locked by who changes the file, byte 1 by everybody who
/// has it, and those behind by what it is about; the locks go with their process, however that ends. Its first eight bytes, which
/// everybody maps, are a counter that is counted up *before* each change, under the lock: who finds
/// that it has changed reads the file under the lock, and so sees the change whole, or, when its
/// author was killed, either whole or not at all.
///
/// SAFETY: the mapping is touched by way of its counter only, atomically; the rest is constant once
/// the file is open. The compiler cannot see that of a mapping.
///
/// `exchange` belongs to one thread at a time; the counter may be read by any.
@safe public final class LockedFile: @unchecked Sendable {
    public let path: String
    private let lock: OwnedDescriptor
    private let region: MappedRegion
    private let limit: Int
    /// What the counter said of the file as it was opened.
    public private(set) var openingCount: UInt64 = 0
    /// A number that no two files have at the same time, as far as numbers go.
    public let identity: UInt64

    private static let changing: Int64 = 0
    private static let presence: Int64 = 1
    private static let agreementStart: Int64 = 2
    private static let kindShared: Int32 = 0
    private static let kindExclusive: Int32 = 1
    private static let kindNone: Int32 = 2

    /// Takes the file, alone or with others that share it, and changes it as `exchange` does.
    ///
    /// Waits while another process changes it.
    ///
    /// The corresponding C function is `fcntl` with F_OFD_SETLK.
    ///
    /// - Parameters:
    ///   - path: of the file, which need not be there.
    ///   - isShared: whether others that say so too may have it meanwhile.
    ///   - subject: a number of what the file is about, where it is about one thing.
    ///   - limit: bytes that it may have at most.
    ///   - change: what becomes of its bytes, nil where there are none; nil for no change. Is told
    ///     whether nobody else has the file.
    /// - Throws: EAGAIN when another process has it and either does not share it; EEXIST when those
    ///   who share it named another subject; what `exchange` throws.
    public init(
        path: String, isShared: Bool = false, subject: UInt64? = nil, limit: Int,
        opening change: (_ bytes: [UInt8]?, _ isFirst: Bool) -> [UInt8]? = { _, _ in nil }
    ) throws(Errno) {
        self.path = path
        self.limit = limit
        let flags = O_RDWR | O_CREAT | O_CLOEXEC
        let lockPath = path + ".lock"
        // SAFETY: the path is passed as a C string for the length of the call.
        lock = OwnedDescriptor(taking: try systemCall { unsafe open(lockPath, flags, 0o600) })
        let number = lock.rawValue
        var status = stat()
        // SAFETY: fstat fills the one local that it is given.
        try systemCall { unsafe fstat(number, &status) }
        identity = UInt64(status.st_ino) ^ UInt64(status.st_dev) << 20
        // With room on the medium: a page that cannot be written would be replaced by one of ours.
        let failure = posix_fallocate(number, 0, 8)
        if failure != 0 { throw Errno(rawValue: failure) }
        region = try MappedRegion(lock, offset: 0, byteCount: 8)
        try setLock(Self.changing, Self.kindExclusive, waits: true)
        defer { unlock() }
        let isFirst = try takePresence(isShared: isShared)
        if let subject { try agree(onSubject: subject) }
        openingCount = try exchangeLocked { change($0, isFirst) }
    }

    /// Locks the byte of those who have the file.
    ///
    /// - Returns: whether nobody else does.
    private func takePresence(isShared: Bool) throws(Errno) -> Bool {
        do throws(Errno) {
            try setLock(Self.presence, Self.kindExclusive)
            if isShared { try setLock(Self.presence, Self.kindShared) }
            return true
        } catch .resourceTemporarilyUnavailable {
            guard isShared else { throw .resourceTemporarilyUnavailable }
            try setLock(Self.presence, Self.kindShared)
            return false
        }
    }

    /// Has the file only with those to whom it is about the same.
    private func agree(onSubject subject: UInt64) throws(Errno) {
        do throws(Errno) {
            try LockAgreement.make(on: subject, in: lock.rawValue, from: Self.agreementStart)
        } catch .resourceTemporarilyUnavailable {
            throw .fileExists
        }
    }

    private func setLock(_ byte: Int64, _ kind: Int32, waits: Bool = false) throws(Errno) {
        let number = lock.rawValue
        do throws(Errno) {
            try systemCall { cl_lock_range(number, byte, 1, kind, waits ? 1 : 0) }
        } catch .permissionDenied {
            // What some file systems say instead.
            throw .resourceTemporarilyUnavailable
        }
    }

    private func unlock() {
        _ = cl_lock_range(lock.rawValue, Self.changing, 1, Self.kindNone, 0)
    }

    /// Changes with every change of the file, before it.
    public var changes: SharedCounter { SharedCounter(in: region) }

    /// Reads the file, and puts in its place what `change` makes of it, while no other process does;
    /// waits for one that does.
    ///
    /// The corresponding C functions are `fcntl` with F_OFD_SETLKW, `open`, `read`, `write`, `fsync`
    /// and `rename`.
    ///
    /// - Parameter change: what becomes of its bytes, nil where there are none; nil for no change.
    /// - Returns: what the counter says of the file as it is now, which is on the medium.
    /// - Throws: the errno; EFBIG for a file of more bytes than the limit, or one that would have;
    ///   ESTALE when somebody has removed the file that is locked, or cut it short.
    @discardableResult
    public func exchange(_ change: (_ bytes: [UInt8]?) -> [UInt8]?) throws(Errno) -> UInt64 {
        try setLock(Self.changing, Self.kindExclusive, waits: true)
        defer { unlock() }
        return try exchangeLocked(change)
    }

    @discardableResult
    private func exchangeLocked(_ change: ([UInt8]?) -> [UInt8]?) throws(Errno) -> UInt64 {
        let number = lock.rawValue
        var status = stat()
        // SAFETY: fstat fills the one local that it is given.
        try systemCall { unsafe fstat(number, &status) }
        // Whoever comes now locks another file, and shares nothing with us.
        if status.st_nlink == 0 { throw .staleNFSFileHandle }
        if let bytes = change(try read()) {
            guard bytes.count <= limit else { throw .fileTooLarge }
            try checkCounter()
            changes.increment()
            try checkCounter()
            try SmallFile.replace(
                path, with: bytes, permissions: .ownerReadWrite, isDurable: true)
        }
        try checkCounter()
        return changes.value
    }

    /// Checks that what is mapped is the file's, and not a page in place of one that was lost.
    ///
    /// Others would see none of our changes then, and we none of theirs. Under the lock nobody counts
    /// up.
    ///
    /// - Throws: ESTALE when they differ.
    private func checkCounter() throws(Errno) {
        let number = lock.rawValue
        var inFile: UInt64 = 0
        // SAFETY: pread fills the one local that it is given.
        let count = try systemCall { unsafe pread(number, &inFile, 8, 0) }
        guard count == 8, inFile == changes.value else { throw .staleNFSFileHandle }
    }

    private func read() throws(Errno) -> [UInt8]? {
        do throws(Errno) {
            return try SmallFile.read(path, limit: limit)
        } catch .noSuchFileOrDirectory {
            return nil
        }
    }
}
