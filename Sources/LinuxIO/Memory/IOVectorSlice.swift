// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc

/// A view of consecutive pieces of an `IOVectorArray`.
///
/// The bytes belong to the guest, which may change them at any moment: the only ways to them are
/// copies. A slice is valid until the list that it came from is changed.
///
/// SAFETY: `count` pieces lie at `base`, and what they name is mapped: whoever made the list sees to
/// both. Offsets are compared with the lengths of the pieces before an address is formed.
@safe public struct IOVectorSlice {
    /// The first piece, for system calls.
    public let base: UnsafeMutablePointer<iovec>
    /// How many pieces.
    public let count: Int

    @inline(__always)
    init(base: UnsafeMutablePointer<iovec>, count: Int) {
        unsafe self.base = base
        self.count = count
    }

    /// The bytes of all pieces together.
    public var byteCount: Int {
        var sum = 0
        for index in 0..<count { unsafe sum &+= base[index].iov_len }
        return sum
    }

    /// Whether every piece starts at and is as long as a multiple of the given powers of two.
    public func isAligned(address: Int, length: Int) -> Bool {
        for index in 0..<count {
            let start = unsafe Int(bitPattern: base[index].iov_base)
            let byteCount = unsafe base[index].iov_len
            if start & (address - 1) != 0 || byteCount & (length - 1) != 0 { return false }
        }
        return true
    }

    /// Has the processor fetch the first bytes, which are read, or written, soon: another one wrote
    /// them last.
    @inline(__always)
    public func prefetch(toWrite: Bool) {
        if count == 0 { return }
        // SAFETY: an address is only hinted at, not accessed.
        let start = unsafe base[0].iov_base
        if toWrite { unsafe cl_prefetch_to_write(start) } else { unsafe cl_prefetch_to_read(start) }
    }

    /// Copies bytes out of the pieces.
    ///
    /// - Parameters:
    ///   - bytes: filled from its start.
    ///   - offset: bytes from the start of the first piece.
    /// - Returns: how many bytes were copied; fewer than asked for when the pieces end before.
    @discardableResult
    public func copyBytes(into bytes: inout MutableRawSpan, from offset: Int = 0) -> Int {
        unsafe bytes.withUnsafeMutableBytes { target in
            unsafe forEachPiece(from: offset, byteCount: target.count) { piece, length, done in
                if let start = target.baseAddress { unsafe memcpy(start + done, piece, length) }
            }
        }
    }

    /// Copies bytes into the pieces.
    ///
    /// - Returns: how many bytes were copied; fewer than given when the pieces end before.
    @discardableResult
    public func store(bytes: RawSpan, at offset: Int = 0) -> Int {
        unsafe bytes.withUnsafeBytes { source in
            unsafe forEachPiece(from: offset, byteCount: source.count) { piece, length, done in
                if let start = source.baseAddress { unsafe memcpy(piece, start + done, length) }
            }
        }
    }

    /// Writes zero bytes into the pieces.
    ///
    /// - Returns: how many bytes were written.
    @discardableResult
    public func storeZeroes(at offset: Int = 0, byteCount: Int) -> Int {
        unsafe forEachPiece(from: offset, byteCount: byteCount) { piece, length, _ in
            unsafe memset(piece, 0, length)
        }
    }

    /// Copies a plain value (integers and structures of them, any bit pattern legal) out of the
    /// pieces, wherever they are split; nil when they hold fewer bytes.
    @inline(__always)
    public func load<Value: BitwiseCopyable>(
        _ type: Value.Type, at offset: Int = 0
    ) -> Value? {
        let size = MemoryLayout<Value>.size
        // SAFETY: the bytes lie within the first piece.
        if count > 0, offset >= 0, unsafe base[0].iov_len >= size,
            unsafe base[0].iov_len &- size >= offset, let start = unsafe base[0].iov_base
        {
            return unsafe start.loadUnaligned(fromByteOffset: offset, as: Value.self)
        }
        return loadAcrossPieces(size: size, at: offset)
    }

    @inline(never)
    private func loadAcrossPieces<Value: BitwiseCopyable>(
        size: Int, at offset: Int
    ) -> Value? {
        unsafe withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { buffer in
            guard let start = UnsafeMutableRawPointer(buffer.baseAddress) else { return nil }
            // SAFETY: the allocation holds one value, `size` bytes.
            let copied = unsafe forEachPiece(from: offset, byteCount: size) { piece, length, done in
                unsafe memcpy(start + done, piece, length)
            }
            return copied == size ? unsafe start.load(as: Value.self) : nil
        }
    }

    /// Copies a plain value into the pieces, wherever they are split.
    ///
    /// - Returns: false when they hold fewer bytes; what fits is written.
    @inline(__always)
    @discardableResult
    public func store<Value: BitwiseCopyable>(_ value: Value, at offset: Int = 0) -> Bool {
        let size = MemoryLayout<Value>.size
        // SAFETY: the bytes lie within the first piece.
        if count > 0, offset >= 0, unsafe base[0].iov_len >= size,
            unsafe base[0].iov_len &- size >= offset, let start = unsafe base[0].iov_base
        {
            unsafe start.storeBytes(of: value, toByteOffset: offset, as: Value.self)
            return true
        }
        return storeAcrossPieces(value, size: size, at: offset)
    }

    @inline(never)
    private func storeAcrossPieces<Value: BitwiseCopyable>(
        _ value: Value, size: Int, at offset: Int
    ) -> Bool {
        unsafe withUnsafeBytes(of: value) { source in
            // SAFETY: a value has `size` bytes.
            unsafe forEachPiece(from: offset, byteCount: size) { piece, length, done in
                if let start = source.baseAddress { unsafe memcpy(piece, start + done, length) }
            } == size
        }
    }

    /// Calls `body` with each stretch of up to `byteCount` bytes from `offset`, its length, and the
    /// bytes done before it.
    ///
    /// Returns the bytes done.
    @inline(__always)
    private func forEachPiece(
        from offset: Int, byteCount: Int,
        _ body: (UnsafeMutableRawPointer, Int, Int) -> Void
    ) -> Int {
        var skip = offset
        var done = 0
        var index = 0
        while index < count && done < byteCount {
            let available = unsafe base[index].iov_len
            if skip >= available {
                skip -= available
            } else if let start = unsafe base[index].iov_base {
                let length = min(available - skip, byteCount - done)
                unsafe body(start + skip, length, done)
                done += length
                skip = 0
            }
            index += 1
        }
        return done
    }
}
