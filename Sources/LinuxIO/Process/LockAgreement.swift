// SPDX-License-Identifier: Apache-2.0

import CLinux
public import SystemPackage

/// How those who share a file agree on a number: each locks, for reading, the byte that the number
/// names, and then looks whether another one is locked.
///
/// The locks are of the open file description, and go with it. Of two who come at the same time with
/// different numbers at most one gets in.
public enum LockAgreement {
    /// How many bytes the numbers take, whether the file has them or not.
    public static let byteCount: Int64 = 1 << 40

    /// Agrees on a number.
    ///
    /// The corresponding C functions are `fcntl` with F_OFD_SETLK and F_OFD_GETLK.
    ///
    /// - Parameters:
    ///   - number: is taken modulo `byteCount`.
    ///   - descriptor: of the file that is shared.
    ///   - start: where the bytes begin.
    /// - Throws: EAGAIN when somebody has another number; the errno of a file that takes no locks.
    public static func make(
        on number: UInt64, in descriptor: Int32, from start: Int64
    ) throws(Errno) {
        let offset = Int64(number % UInt64(byteCount))
        let byte = start + offset
        try systemCall { cl_lock_range(descriptor, byte, 1, 0, 0) }
        for (first, count) in [(start, offset), (byte + 1, byteCount - offset - 1)] where count > 0
        {
            if try systemCall({ cl_is_range_locked(descriptor, first, count) }) == 1 {
                throw .resourceTemporarilyUnavailable
            }
        }
    }
}
