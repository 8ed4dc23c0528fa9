// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import CLinux
import Glibc
import LinuxIO
import SystemPackage

/// What is to be known about an open file before it can be a disk.
struct FileGeometry {
    /// The shape that the disk shows.
    var blocks: BlockGeometry
    /// What transfers past the page cache ask for; nil when the file goes through the cache.
    let direct: DirectAlignment?
    let isBlockDevice: Bool

    /// Measures an open file, for blocks of `blockSize` bytes: 512 or 4096; nil for what the medium
    /// has (512 for a file).
    init(_ file: borrowing OpenedFile, blockSize: Int?, readOnly: Bool) throws(FileStoreError) {
        let limits = QueueLimits(device: file.status.deviceOfBlocks)
        isBlockDevice = file.status.isBlockDevice
        if isBlockDevice && limits.isReadOnly && !readOnly {
            throw .readOnlyMedium(path: file.path)
        }
        let logical = isBlockDevice ? limits.logicalBlockSize : 512
        let size = blockSize ?? max(512, logical)
        guard size == 512 || size == 4096 else {
            throw .invalidBlockSize(path: file.path, blockSize: size)
        }
        let byteCount = try Self.byteCount(of: file)
        guard byteCount > 0 else { throw .empty(path: file.path) }
        guard byteCount % UInt64(size) == 0 else {
            throw .sizeNotMultiple(path: file.path, byteCount: byteCount, blockSize: size)
        }
        blocks = BlockGeometry(blockSize: size, blockCount: byteCount / UInt64(size))
        direct = DirectAlignment(file, logicalBlockSize: limits.logicalBlockSize, blockSize: size)
        describeMedium(file, limits, readOnly: readOnly)
    }

    private mutating func describeMedium(
        _ file: borrowing OpenedFile, _ limits: QueueLimits, readOnly: Bool
    ) {
        let unit = isBlockDevice ? limits.physicalBlockSize : min(4096, Int(file.status.st_blksize))
        blocks.physicalBlockSize = max(blocks.blockSize, unit)
        blocks.optimalTransferSize = limits.optimalTransferSize
        blocks.isRotational = limits.isRotational
        if readOnly { return }
        if isBlockDevice {
            blocks.discardGranularity = limits.discardGranularity
            blocks.discardReadsZeroes = limits.canWriteZeroes
        } else if canPunchHoles(file) {
            blocks.discardGranularity = max(blocks.blockSize, Int(file.status.st_blksize))
            blocks.discardReadsZeroes = true
        }
    }

    /// Tries a hole behind the end of the file, where there is nothing to lose.
    private func canPunchHoles(_ file: borrowing OpenedFile) -> Bool {
        let end = UInt64(file.status.st_size)
        return SystemBlockingCalls().punchHole(file.descriptor.rawValue, end..<end + 4096) == 0
    }

    /// Bytes of the file or device as it is now.
    static func byteCount(of file: borrowing OpenedFile) throws(FileStoreError) -> UInt64 {
        do throws(Errno) {
            return try byteCount(
                of: file.descriptor.rawValue, isBlockDevice: file.status.isBlockDevice)
        } catch {
            throw .system(path: file.path, operation: "read its size", error)
        }
    }

    /// Bytes of the file or device as it is now.
    static func byteCount(
        of descriptor: Int32, isBlockDevice: Bool
    ) throws(Errno) -> UInt64 {
        if isBlockDevice {
            var byteCount: UInt64 = 0
            var logical: UInt32 = 0
            var physical: UInt32 = 0
            // SAFETY: the shim fills the three locals.
            try systemCall {
                unsafe cl_block_device_geometry(descriptor, &byteCount, &logical, &physical)
            }
            return byteCount
        }
        var status = stat()
        // SAFETY: fstat fills the one local that it is given.
        try systemCall { unsafe fstat(descriptor, &status) }
        return UInt64(max(0, status.st_size))
    }
}

extension stat {
    /// The block device itself, or the one that the file's file system lies on.
    fileprivate var deviceOfBlocks: UInt64 { UInt64(isBlockDevice ? st_rdev : st_dev) }
}
