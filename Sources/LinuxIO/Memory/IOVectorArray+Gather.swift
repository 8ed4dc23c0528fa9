// SPDX-License-Identifier: Apache-2.0

import Glibc

extension IOVectorArray {
    /// Adds a part of other pieces, so that parts of several buffers go into one system call.
    ///
    /// - Parameters:
    ///   - pieces: of another list.
    ///   - offset: bytes to leave out from the start of the first piece.
    ///   - limit: bytes to add at most.
    /// - Returns: how many bytes were added; fewer than the limit when the pieces end before.
    @inline(__always)
    @discardableResult
    public mutating func append(
        _ pieces: IOVectorSlice, from offset: Int, byteCount limit: Int
    ) -> Int {
        var skip = offset
        var left = limit
        var index = 0
        while index < pieces.count && left > 0 {
            // SAFETY: index < count; the piece lies in memory that its own list vouches for.
            let piece = unsafe pieces.base[index]
            let length = unsafe piece.iov_len
            if skip >= length {
                skip &-= length
            } else if let start = unsafe piece.iov_base {
                let taken = min(length &- skip, left)
                unsafe append(start + skip, byteCount: taken)
                left &-= taken
                skip = 0
            }
            index &+= 1
        }
        return limit &- left
    }
}
