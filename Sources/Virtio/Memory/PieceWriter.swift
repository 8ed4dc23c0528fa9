// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO

/// The end of a list of pieces, while pieces are added for which room was reserved.
///
/// SAFETY: points into the storage of the list, which does not move while no more is added than was
/// reserved; lives no longer than the take that made it.
@safe struct PieceWriter {
    private let end: UnsafeMutablePointer<iovec>

    /// Reserves room for `count` pieces behind the last one.
    @inline(__always)
    init(_ pieces: inout IOVectorArray, reserving count: Int) {
        pieces.reserve(count)
        unsafe end = pieces.end
    }

    @inline(__always)
    private init(_ end: UnsafeMutablePointer<iovec>) {
        unsafe self.end = end
    }

    /// Writes a piece, of those for which room was reserved.
    ///
    /// - Returns: where the next one goes.
    @inline(__always)
    func write(_ base: UnsafeMutableRawPointer, byteCount: Int) -> PieceWriter {
        // SAFETY: room was reserved for as many pieces as there are descriptors in the batch, and
        // each writes one here.
        unsafe end.initialize(to: iovec(iov_base: base, iov_len: byteCount))
        return unsafe PieceWriter(end + 1)
    }

    /// How many pieces of the list come before this place.
    @inline(__always)
    func index(in pieces: borrowing IOVectorArray) -> Int {
        unsafe pieces.index(of: end)
    }

    /// Makes what was written part of the list.
    @inline(__always)
    func finish(_ pieces: inout IOVectorArray) {
        unsafe pieces.setEnd(end)
    }
}
