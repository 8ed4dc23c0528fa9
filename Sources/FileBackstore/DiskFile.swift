// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// A regular file or a block device that was opened, locked and measured, and is to become a store.
///
/// Opening may wait for a medium: any thread may do it, and hand the file to that of the store.
public struct DiskFile: ~Copyable, Sendable {
    public let path: String
    let isReadOnly: Bool
    let file: OpenedFile
    let geometry: FileGeometry
    /// The format of disk image whose mark the file begins with; nil for none that is known.
    ///
    /// Such a file is a disk as any other: a guest may write what it likes.
    public let imageFormat: String?
    /// Whether nobody else may have the file; others share their locks.
    let isExclusive: Bool
    let isLocked: Bool

    /// Opens a file or a block device, and locks it.
    ///
    /// - Parameters:
    ///   - path: the name of a regular file or a block device.
    ///   - readOnly: whether writes are refused; others may then read the file too.
    ///   - isShared: whether others that say so too may have the file meanwhile, and write to it.
    ///   - blockSize: 512 or 4096 bytes; nil for what the medium has, 512 for a file.
    ///   - locks: false to leave a file that nobody else may have to who has it, until the store
    ///     is told to lock it (`FileStore.lock`).
    /// - Throws: why the file cannot be a disk.
    public init(
        path: String, readOnly: Bool = false, isShared: Bool = false, blockSize: Int? = nil,
        locks: Bool = true
    ) throws(FileStoreError) {
        let isExclusive = !readOnly && !isShared
        let isLocked = locks || !isExclusive
        let opened = try OpenedFile(
            path: path, readOnly: readOnly, isShared: isShared, locks: isLocked)
        let measured = try FileGeometry(opened, blockSize: blockSize, readOnly: readOnly)
        if measured.direct == nil { try opened.useThePageCache() }
        // Nothing is set before the last throw: the compiler would then close what is not there.
        self.path = path
        self.isExclusive = isExclusive
        self.isLocked = isLocked
        isReadOnly = readOnly
        imageFormat = opened.imageFormat
        file = opened
        geometry = measured
    }

    /// A number that no two files or devices have at the same time, as far as numbers go.
    public var identity: UInt64 { file.identity }

    /// Refuses to share the file with somebody who keeps what belongs to it elsewhere.
    ///
    /// - Parameter place: a number of the place where this one keeps it.
    /// - Throws: `keptElsewhere`.
    public func agree(onPlace place: UInt64) throws(FileStoreError) {
        try file.agree(onPlace: place)
    }

    /// Gives the descriptor, and with it the lock, to another owner.
    consuming func takeDescriptor() -> OwnedDescriptor { file.takeDescriptor() }
}
