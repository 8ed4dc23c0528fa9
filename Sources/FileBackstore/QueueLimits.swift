// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxIO
import SystemPackage

/// What the kernel says of a block device and of its request queue (sysfs, "queue").
///
/// A number that cannot be read is what a plain disk of 512-byte blocks would say.
struct QueueLimits: Equatable {
    var logicalBlockSize = 512
    var physicalBlockSize = 512
    var optimalTransferSize = 0
    var discardGranularity = 0
    var canWriteZeroes = false
    var isRotational = false
    /// Whether writes are refused; the device can be opened for writing nevertheless.
    var isReadOnly = false

    /// Reads the limits of the device with this number, or of the disk that it is a part of.
    init(device: UInt64) {
        let name = "/sys/dev/block/\(Self.major(device)):\(Self.minor(device))"
        isReadOnly = Self.number(name, "ro") == 1
        // A partition has no queue of its own; its folder lies in the disk's.
        guard let folder = ["\(name)/queue", "\(name)/../queue"].first(where: Self.exists) else {
            return
        }
        logicalBlockSize = Self.number(folder, "logical_block_size") ?? 512
        physicalBlockSize = Self.number(folder, "physical_block_size") ?? logicalBlockSize
        optimalTransferSize = Self.number(folder, "optimal_io_size") ?? 0
        isRotational = Self.number(folder, "rotational") == 1
        canWriteZeroes = (Self.number(folder, "write_zeroes_max_bytes") ?? 0) > 0
        if (Self.number(folder, "discard_max_bytes") ?? 0) > 0 {
            let granularity = Self.number(folder, "discard_granularity") ?? 0
            discardGranularity = max(granularity, logicalBlockSize)
        }
    }

    /// The kernel's way to put two numbers into a dev_t (gnu_dev_major).
    private static func major(_ device: UInt64) -> UInt64 {
        device >> 8 & 0xfff | device >> 32 & 0xffff_f000
    }

    /// As gnu_dev_minor.
    private static func minor(_ device: UInt64) -> UInt64 {
        device & 0xff | device >> 12 & 0xffff_ff00
    }

    private static func exists(_ path: String) -> Bool {
        // SAFETY: the path is passed as a C string for the length of the call.
        unsafe access(path, F_OK) == 0
    }

    private static func number(_ folder: String, _ name: String) -> Int? {
        var text = [UInt8](repeating: 0, count: 32)
        let path = "\(folder)/\(name)"
        // SAFETY: the path is passed as a C string for the length of the call.
        let descriptor = resultOrNegativeErrno { unsafe Int(open(path, O_RDONLY | O_CLOEXEC)) }
        guard descriptor >= 0 else { return nil }
        let file = OwnedDescriptor(taking: Int32(descriptor))
        let count = resultOrNegativeErrno {
            // SAFETY: reads no further than the array's end.
            unsafe text.withUnsafeMutableBytes {
                unsafe read(file.rawValue, $0.baseAddress, $0.count)
            }
        }
        guard count > 0 else { return nil }
        let digits = text.prefix(count).prefix { $0 >= 0x30 && $0 <= 0x39 }
        return Int(String(decoding: digits, as: UTF8.self))
    }
}
