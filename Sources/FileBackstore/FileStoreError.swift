// SPDX-License-Identifier: Apache-2.0

public import SystemPackage

/// Why a file cannot be a disk.
public enum FileStoreError: Error, Equatable, CustomStringConvertible {
    /// Nothing has this name.
    case noSuchFile(path: String)
    /// The name belongs to a directory, a socket or something else that holds no blocks.
    case notADisk(path: String, kind: String)
    /// The permissions do not allow it.
    case permissionDenied(path: String, readOnly: Bool)
    /// The medium or its file system takes no writes.
    case readOnlyMedium(path: String)
    /// Another program, or another disk of this one, holds the lock.
    case locked(path: String, readOnly: Bool)
    /// Somebody shares the file who keeps its reservations in another file.
    case keptElsewhere(path: String)
    /// The block device is claimed: it is mounted, part of another device, or another disk has it.
    case inUse(path: String)
    /// The file has no bytes.
    case empty(path: String)
    /// The file does not end at the end of a block.
    case sizeNotMultiple(path: String, byteCount: UInt64, blockSize: Int)
    /// A disk has blocks of 512 or 4096 bytes.
    case invalidBlockSize(path: String, blockSize: Int)
    /// A system call failed.
    case system(path: String, operation: String, Errno)

    public var description: String {
        switch self {
        case .noSuchFile(let path):
            "\(path): no such file"
        case .notADisk(let path, let kind):
            "\(path): is \(kind), not a regular file or a block device"
        case .permissionDenied(let path, let readOnly):
            "\(path): permission denied to open it for \(readOnly ? "reading" : "writing")"
        case .readOnlyMedium(let path):
            "\(path): lies on a read-only medium; make it a read-only disk"
        case .locked(let path, let readOnly):
            (readOnly
                ? "\(path): in use as a writable disk by another process or another disk of this one"
                : "\(path): in use by another process or another disk of this one")
                + "; services share a disk when each has it with shared and the same reservations="
        case .keptElsewhere(let path):
            "\(path): another service shares it with another reservations= file; all need the same"
        case .inUse(let path):
            "\(path): the block device is mounted, part of another device, or another disk has it"
        case .empty(let path):
            "\(path): is empty; a disk has at least one block"
        case .sizeNotMultiple(let path, let byteCount, let blockSize):
            "\(path): \(byteCount) bytes are not a multiple of the block size, \(blockSize) bytes"
        case .invalidBlockSize(let path, let blockSize):
            "\(path): a block size of \(blockSize) bytes; it must be 512 or 4096"
        case .system(let path, let operation, let error):
            "\(path): \(operation): \(error)"
        }
    }
}
