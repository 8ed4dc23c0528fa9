// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxIO
import SystemPackage

/// The system calls that wait for a medium, made on worker threads.
///
/// A seam: the tests put a kernel in between that fails where they say. Every call returns what
/// the system call returned, or a negative errno.
package protocol BlockingCalls: Sendable {
    /// The corresponding C function is `preadv`.
    func read(
        _ descriptor: Int32, into pieces: UnsafePointer<iovec>, count: Int, at offset: UInt64
    ) -> Int

    /// Writes; with `isDurable` the data is on the medium afterwards.
    ///
    /// The corresponding C function is `pwritev2`.
    func write(
        _ descriptor: Int32, from pieces: UnsafePointer<iovec>, count: Int, at offset: UInt64,
        isDurable: Bool
    ) -> Int

    /// The corresponding C function is `fdatasync`.
    func synchronize(_ descriptor: Int32) -> Int

    /// Makes a hole that reads as zeroes.
    ///
    /// The corresponding C function is `fallocate` with FALLOC_FL_PUNCH_HOLE.
    func punchHole(_ descriptor: Int32, _ range: Range<UInt64>) -> Int

    /// Writes zeroes without freeing.
    ///
    /// The corresponding C function is `fallocate` with FALLOC_FL_ZERO_RANGE.
    func zeroRange(_ descriptor: Int32, _ range: Range<UInt64>) -> Int

    /// Frees blocks of a block device, whatever they read as afterwards.
    ///
    /// The corresponding C function is `ioctl` with BLKDISCARD.
    func discard(_ descriptor: Int32, _ range: Range<UInt64>) -> Int

    /// How many bytes from the start of the range are data, or hole, alike: twice that, and one more
    /// when they are data.
    ///
    /// The corresponding C function is `lseek` with SEEK_DATA and SEEK_HOLE.
    func locate(_ descriptor: Int32, _ range: Range<UInt64>) -> Int
}

/// The calls as the kernel answers them.
package struct SystemBlockingCalls: BlockingCalls {
    package init() {}

    package func read(
        _ descriptor: Int32, into pieces: UnsafePointer<iovec>, count: Int, at offset: UInt64
    ) -> Int {
        // SAFETY: the caller vouches for `count` pieces and for the memory behind them.
        resultOrNegativeErrno { unsafe preadv(descriptor, pieces, Int32(count), off_t(offset)) }
    }

    package func write(
        _ descriptor: Int32, from pieces: UnsafePointer<iovec>, count: Int, at offset: UInt64,
        isDurable: Bool
    ) -> Int {
        // SAFETY: the caller vouches for `count` pieces and for the memory behind them.
        resultOrNegativeErrno {
            unsafe cl_write_vectors(
                descriptor, pieces, Int32(count), Int64(offset), isDurable ? 1 : 0)
        }
    }

    package func synchronize(_ descriptor: Int32) -> Int {
        resultOrNegativeErrno { Int(fdatasync(descriptor)) }
    }

    package func punchHole(_ descriptor: Int32, _ range: Range<UInt64>) -> Int {
        allocate(descriptor, cl_fallocate_punch_hole, range)
    }

    package func zeroRange(_ descriptor: Int32, _ range: Range<UInt64>) -> Int {
        allocate(descriptor, cl_fallocate_zero_range, range)
    }

    private func allocate(_ descriptor: Int32, _ mode: UInt32, _ range: Range<UInt64>) -> Int {
        let mode = Int32(mode | cl_fallocate_keep_size)
        return resultOrNegativeErrno {
            Int(cl_fallocate(descriptor, mode, Int64(range.lowerBound), Int64(range.count)))
        }
    }

    package func locate(_ descriptor: Int32, _ range: Range<UInt64>) -> Int {
        let (start, end) = (Int(range.lowerBound), Int(range.upperBound))
        // Of what does not tell data from holes, a block device say, all is data.
        let allData = (end - start) << 1 | 1
        let data = resultOrNegativeErrno { Int(lseek(descriptor, off_t(start), Self.seekData)) }
        if data == -Int(ENXIO) { return (end - start) << 1 }
        if data < 0 { return allData }
        if data > start { return (min(data, end) - start) << 1 }
        let hole = resultOrNegativeErrno { Int(lseek(descriptor, off_t(start), Self.seekHole)) }
        return hole > start ? (min(hole, end) - start) << 1 | 1 : allData
    }

    /// SEEK_DATA.
    private static let seekData: Int32 = 3
    /// SEEK_HOLE.
    private static let seekHole: Int32 = 4

    package func discard(_ descriptor: Int32, _ range: Range<UInt64>) -> Int {
        resultOrNegativeErrno {
            Int(cl_block_device_discard(descriptor, range.lowerBound, UInt64(range.count)))
        }
    }
}

/// What the call returned, or the negative errno.
func resultOrNegativeErrno(_ call: () -> Int) -> Int {
    do throws(Errno) {
        return try systemCall(call)
    } catch {
        return -Int(error.rawValue)
    }
}
