// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Copies between pieces and memory of ours, for whoever does without unsafe code.
extension IOVectorSlice {
    /// Copies the first `byteCount` bytes of an array into the pieces.
    ///
    /// - Returns: how many bytes were copied; fewer when the pieces end before.
    @discardableResult
    public func store(_ bytes: [UInt8], byteCount: Int, at offset: Int = 0) -> Int {
        // SAFETY: an array's span is initialised bytes.
        unsafe store(bytes: bytes.span.bytes.extracting(0..<byteCount), at: offset)
    }

    /// Copies bytes out of the pieces.
    ///
    /// - Returns: as many bytes as there are, at most `byteCount`.
    public func bytes(_ byteCount: Int, from offset: Int = 0) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        var span = bytes.mutableSpan
        // SAFETY: whatever is written into it is bytes.
        var raw = unsafe span.mutableBytes
        let copied = copyBytes(into: &raw, from: offset)
        bytes.removeLast(byteCount - copied)
        return bytes
    }
}
