// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxIO

/// What the kernel asks of a transfer past the page cache.
struct DirectAlignment: Equatable {
    /// Every piece starts at a multiple of this, a power of two.
    let memory: Int
    /// Every piece's length and the place on the medium are multiples of this, a power of two.
    let length: Int

    /// File systems that have no medium: their direct I/O would run within `io_submit`.
    ///
    /// TMPFS_MAGIC, RAMFS_MAGIC, HUGETLBFS_MAGIC.
    private static let memoryFileSystems: [Int64] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6]

    /// Asks the kernel, and where it does not say, reads a little to find out.
    ///
    /// Nil when the file is to go through the page cache: it lies in memory, its file system has no
    /// direct I/O, or asks for more than the disk's blocks give.
    init?(_ file: borrowing OpenedFile, logicalBlockSize: Int, blockSize: Int) {
        let descriptor = file.descriptor.rawValue
        // A block device is not in memory, though its name is: in devtmpfs.
        guard file.isDirect, file.status.isBlockDevice || !Self.isInMemory(descriptor) else {
            return nil
        }
        var memory: UInt32 = 0
        var length: UInt32 = 0
        // SAFETY: the shim fills the two locals.
        if unsafe cl_direct_io_alignment(descriptor, &memory, &length) == 1 {
            self.init(memory: Int(memory), length: Int(length))
        } else {
            self.init(probing: descriptor, from: logicalBlockSize)
        }
        guard self.length <= blockSize else { return nil }
    }

    private init?(memory: Int, length: Int) {
        guard memory > 0, length > 0, memory & (memory - 1) == 0, length & (length - 1) == 0,
            max(memory, length) <= BouncePool.bufferByteCount
        else { return nil }
        self.memory = memory
        self.length = length
    }

    /// Reads from the start of the file at the alignment of the device, then of a page.
    private init?(probing descriptor: Int32, from logicalBlockSize: Int) {
        for size in [logicalBlockSize, 4096] where Self.canRead(descriptor, alignment: size) {
            self.init(memory: size, length: size)
            return
        }
        return nil
    }

    private static func canRead(_ descriptor: Int32, alignment: Int) -> Bool {
        unsafe withUnsafeTemporaryAllocation(byteCount: 3 * alignment, alignment: alignment) {
            buffer in
            // SAFETY: the buffer holds three units; the second one, which is no better aligned
            // than asked for when the first is, takes one.
            let count = resultOrNegativeErrno {
                unsafe pread(
                    descriptor, buffer.baseAddress.map { unsafe $0 + alignment }, alignment, 0)
            }
            return count > 0
        }
    }

    private static func isInMemory(_ descriptor: Int32) -> Bool {
        var type: Int64 = 0
        // SAFETY: the shim fills the local.
        guard unsafe cl_file_system_type(descriptor, &type) == 0 else { return false }
        return memoryFileSystems.contains(type)
    }
}
