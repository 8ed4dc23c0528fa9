// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Memory of ours with one owner, aligned as the kernel wants it for direct I/O: what a command
/// that cannot work in place reads into and writes from.
///
/// Belongs to one thread at a time, whichever made it.
@safe public final class AlignedBuffer {
    /// Every buffer starts at a multiple of this many bytes.
    public static var alignment: Int { 4096 }

    /// Bytes in the buffer.
    public let byteCount: Int
    private let start: UnsafeMutableRawPointer
    private let list = Cell(IOVectorArray(capacity: 1))

    /// Makes a buffer of zero bytes.
    ///
    /// - Parameter byteCount: at least one.
    public init(byteCount: Int) {
        precondition(byteCount > 0, "a buffer holds at least one byte")
        self.byteCount = byteCount
        unsafe start = .allocate(byteCount: byteCount, alignment: Self.alignment)
        // SAFETY: as many bytes as were just allocated.
        unsafe memset(start, 0, byteCount)
    }

    deinit {
        unsafe start.deallocate()
    }

    /// The first `byteCount` bytes as one piece, valid until the next call and as long as the buffer.
    public func pieces(byteCount: Int) -> IOVectorSlice {
        precondition((1...self.byteCount).contains(byteCount), "a piece lies within its buffer")
        list.value.removeAll()
        unsafe list.value.append(start, byteCount: byteCount)
        return list.value.all
    }

    // MARK: Bytes, which nobody else may use meanwhile: no request of the kernel is under way

    /// One byte.
    public subscript(offset: Int) -> UInt8 {
        precondition((0..<byteCount).contains(offset), "an offset lies within its buffer")
        // SAFETY: checked just now.
        return unsafe start.load(fromByteOffset: offset, as: UInt8.self)
    }

    /// Fills the buffer by writing a pattern again and again.
    ///
    /// - Parameter pattern: at least one byte.
    public func fill(repeating pattern: [UInt8]) {
        for offset in 0..<byteCount {
            // SAFETY: below the number of bytes of the allocation.
            unsafe start.storeBytes(
                of: pattern[offset % pattern.count], toByteOffset: offset, as: UInt8.self)
        }
    }

    /// Copies the first `byteCount` bytes into pieces.
    ///
    /// - Returns: how many bytes were copied; fewer when the pieces end before.
    public func copy(byteCount: Int, to pieces: IOVectorSlice, at offset: Int = 0) -> Int {
        precondition(byteCount <= self.byteCount, "bytes lie within their buffer")
        // SAFETY: checked just now; the bytes were initialised when the buffer was made.
        let bytes = unsafe RawSpan(_unsafeStart: start, byteCount: byteCount)
        return pieces.store(bytes: bytes, at: offset)
    }

    /// Copies `byteCount` bytes of pieces, from `offset` on, to the start of the buffer.
    public func fill(from pieces: IOVectorSlice, at offset: Int, byteCount: Int) {
        precondition(byteCount <= self.byteCount, "bytes lie within their buffer")
        // SAFETY: checked just now; nobody else uses the bytes.
        var bytes = unsafe MutableRawSpan(_unsafeStart: start, byteCount: byteCount)
        pieces.copyBytes(into: &bytes, from: offset)
    }

    /// Where the first `byteCount` bytes of two buffers differ for the first time.
    public func firstDifference(from other: AlignedBuffer, byteCount: Int) -> Int? {
        precondition(byteCount <= min(self.byteCount, other.byteCount), "bytes lie within both")
        // SAFETY: both allocations are as long.
        if unsafe memcmp(start, other.start, byteCount) == 0 { return nil }
        return (0..<byteCount).first { self[$0] != other[$0] }
    }

    /// Sets the bits that are set in the first `byteCount` bytes of another buffer.
    public func formUnion(_ other: AlignedBuffer, byteCount: Int) {
        precondition(byteCount <= min(self.byteCount, other.byteCount), "bytes lie within both")
        for offset in 0..<byteCount {
            // SAFETY: checked just now.
            unsafe start.storeBytes(
                of: self[offset] | other[offset], toByteOffset: offset, as: UInt8.self)
        }
    }
}
