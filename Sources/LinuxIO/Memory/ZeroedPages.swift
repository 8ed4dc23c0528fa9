// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Private memory that reads as zero and costs nothing until it is touched, with one owner.
///
/// For tables that are sized for the worst case and mostly stay empty.
@safe public struct ZeroedPages: ~Copyable {
    /// The first byte, aligned to a page.
    public let base: UnsafeMutableRawPointer
    /// Bytes that may be touched.
    public let byteCount: Int

    /// Maps `byteCount` bytes, at least one.
    ///
    /// The corresponding C function is `mmap`.
    public init(byteCount: Int) {
        precondition(byteCount > 0, "a mapping has at least one byte")
        // SAFETY: a fresh private mapping wherever the kernel likes.
        let address = unsafe mmap(
            nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
            -1, 0)
        guard let address = unsafe address, unsafe address != MAP_FAILED else {
            preconditionFailure("no address space is left for \(byteCount) bytes")
        }
        unsafe base = address
        self.byteCount = byteCount
    }

    deinit {
        // SAFETY: the mapping is this owner's; nobody else keeps the pointer.
        _ = unsafe munmap(base, byteCount)
    }
}
