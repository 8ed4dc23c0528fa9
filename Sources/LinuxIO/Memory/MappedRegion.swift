// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// A shared mapping of a file with one owner, unmapped when the owner goes.
@safe public struct MappedRegion: ~Copyable {
    /// The first byte that was asked for (not the page that it lies in).
    public let base: UnsafeMutableRawPointer
    /// Bytes from `base` that may be touched.
    public let byteCount: Int
    private let mapping: UnsafeMutableRawPointer
    private let mappingByteCount: Int

    /// Maps `byteCount` bytes of the file from `offset`, readable, writable and shared, and
    /// keeps them out of core dumps.
    ///
    /// The corresponding C function is `mmap`.
    ///
    /// - Parameters:
    ///   - descriptor: may be closed once the region is mapped.
    ///   - offset: bytes; need not be a multiple of the page size.
    ///   - byteCount: at least one.
    /// - Throws: `invalidArgument` when offset and count overflow or the file is too short (its
    ///   pages would raise SIGBUS), else the errno of mmap.
    public init(
        _ descriptor: borrowing OwnedDescriptor, offset: UInt64, byteCount: UInt64
    ) throws(Errno) {
        let page = UInt64(sysconf(Int32(_SC_PAGESIZE)))
        let delta = offset % page
        let (end, overflow) = offset.addingReportingOverflow(byteCount)
        guard byteCount > 0, !overflow, end <= UInt64(Int.max) else { throw .invalidArgument }
        guard try Self.fileByteCount(descriptor.rawValue) >= end else { throw .invalidArgument }
        let length = Int(byteCount + delta)
        let number = descriptor.rawValue
        // SAFETY: a fresh mapping wherever the kernel likes; MAP_FAILED is -1, which systemCall
        // turns into the errno.
        let address = try systemCall {
            unsafe Int(
                bitPattern: mmap(
                    nil, length, PROT_READ | PROT_WRITE, MAP_SHARED, number,
                    off_t(offset - delta)))
        }
        guard let mapping = unsafe UnsafeMutableRawPointer(bitPattern: address) else {
            throw .noMemory
        }
        unsafe madvise(mapping, length, Int32(MADV_DONTDUMP))
        unsafe self.mapping = mapping
        unsafe base = mapping + Int(delta)
        mappingByteCount = length
        self.byteCount = Int(byteCount)
    }

    deinit {
        // SAFETY: the mapping is this owner's; whoever handed out pointers into it has seen to it
        // that none is in use any more.
        _ = unsafe munmap(mapping, mappingByteCount)
    }

    private static func fileByteCount(_ descriptor: Int32) throws(Errno) -> UInt64 {
        var status = stat()
        // SAFETY: fstat fills the one local that it is given.
        try systemCall { unsafe fstat(descriptor, &status) }
        return UInt64(max(0, status.st_size))
    }
}

extension OwnedDescriptor {
    /// An anonymous file of `byteCount` zero bytes in memory.
    ///
    /// The corresponding C functions are `memfd_create` and `ftruncate`.
    public static func memoryFile(
        name: String, byteCount: Int
    ) throws(Errno) -> OwnedDescriptor {
        // SAFETY: the name is passed as a C string for the length of the call.
        let file = OwnedDescriptor(taking: try systemCall { unsafe cl_memfd_create(name, 1) })
        let number = file.rawValue
        try systemCall { ftruncate(number, off_t(byteCount)) }
        return file
    }
}
