// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization

/// A stretch of guest memory that the driver and the device both use at the same time, as the
/// driver's processor sees it.
///
/// Everything in it is little-endian, as this processor is. Loads and stores are atomic with the
/// ordering in their name; the offsets are checked, in bytes from the start of the area, and
/// aligned to the value. The area stays mapped for as long as the `TestMemory` that gave it lives.
///
/// SAFETY: threads share an area on purpose; every access is atomic, or a copy of bytes that a
/// ring hands from one side to the other.
@safe public struct SharedArea: @unchecked Sendable {
    private let base: UnsafeMutableRawPointer
    /// Bytes.
    public let byteCount: Int

    init(base: UnsafeMutableRawPointer, byteCount: Int) {
        unsafe self.base = base
        self.byteCount = byteCount
    }

    // MARK: What one side publishes to the other

    /// Loads 16 bits; what the other side stored before it released them is then visible.
    public func loadAcquiring16(_ offset: Int) -> UInt16 {
        unsafe atomic(UInt16.self, offset).pointee.load(ordering: .acquiring)
    }

    /// Loads 32 bits; what the other side stored before it released them is then visible.
    public func loadAcquiring32(_ offset: Int) -> UInt32 {
        unsafe atomic(UInt32.self, offset).pointee.load(ordering: .acquiring)
    }

    /// Stores 16 bits after everything that this side stored before.
    public func storeReleasing16(_ offset: Int, _ value: UInt16) {
        unsafe atomic(UInt16.self, offset).pointee.store(value, ordering: .releasing)
    }

    /// Stores 32 bits after everything that this side stored before.
    public func storeReleasing32(_ offset: Int, _ value: UInt32) {
        unsafe atomic(UInt32.self, offset).pointee.store(value, ordering: .releasing)
    }

    // MARK: What stands behind an index or a flag

    public func load16(_ offset: Int) -> UInt16 {
        unsafe atomic(UInt16.self, offset).pointee.load(ordering: .relaxed)
    }

    public func load32(_ offset: Int) -> UInt32 {
        unsafe atomic(UInt32.self, offset).pointee.load(ordering: .relaxed)
    }

    public func load64(_ offset: Int) -> UInt64 {
        unsafe atomic(UInt64.self, offset).pointee.load(ordering: .relaxed)
    }

    public func store16(_ offset: Int, _ value: UInt16) {
        unsafe atomic(UInt16.self, offset).pointee.store(value, ordering: .relaxed)
    }

    public func store32(_ offset: Int, _ value: UInt32) {
        unsafe atomic(UInt32.self, offset).pointee.store(value, ordering: .relaxed)
    }

    public func store64(_ offset: Int, _ value: UInt64) {
        unsafe atomic(UInt64.self, offset).pointee.store(value, ordering: .relaxed)
    }

    // MARK: Bytes

    /// Copies bytes in.
    public func write(_ bytes: some Collection<UInt8>, at offset: Int) {
        precondition(offset >= 0 && bytes.count <= byteCount - offset, "bytes lie within the area")
        // SAFETY: checked just now.
        unsafe UnsafeMutableRawBufferPointer(start: base + offset, count: bytes.count)
            .copyBytes(from: bytes)
    }

    /// Copies bytes out.
    public func read(at offset: Int, count: Int) -> [UInt8] {
        precondition(offset >= 0 && count <= byteCount - offset, "bytes lie within the area")
        // SAFETY: checked just now.
        return unsafe [UInt8](UnsafeRawBufferPointer(start: base + offset, count: count))
    }

    /// Writes one byte over and over.
    public func fill(_ byte: UInt8, at offset: Int, count: Int) {
        precondition(offset >= 0 && count <= byteCount - offset, "bytes lie within the area")
        // SAFETY: checked just now.
        unsafe memset(base + offset, Int32(byte), count)
    }

    /// Whether `count` bytes at `offset` all are `byte`.
    public func isFilled(with byte: UInt8, at offset: Int, count: Int) -> Bool {
        precondition(offset >= 0 && count <= byteCount - offset, "bytes lie within the area")
        // SAFETY: checked just now; the second range is one byte shorter, both lie within.
        let first = unsafe (base + offset)
        if count == 0 { return true }
        let start = unsafe first.load(as: UInt8.self)
        return unsafe start == byte && memcmp(first, first + 1, count - 1) == 0
    }

    /// Whether a range holds the same bytes as that range of `bytes`.
    public func holds(_ bytes: [UInt8], in range: Range<Int>) -> Bool {
        precondition(
            range.lowerBound >= 0 && range.upperBound <= min(byteCount, bytes.count),
            "a range lies within both")
        return unsafe bytes.withUnsafeBytes { other in
            // SAFETY: checked just now, for both.
            guard let start = other.baseAddress else { return true }
            return unsafe memcmp(
                base + range.lowerBound, start + range.lowerBound, range.count) == 0
        }
    }

    /// A part of the area.
    public func part(at offset: Int, byteCount: Int) -> SharedArea {
        precondition(
            offset >= 0 && byteCount <= self.byteCount - offset, "a part lies within the area")
        return unsafe SharedArea(base: base + offset, byteCount: byteCount)
    }

    @inline(__always)
    private func atomic<Value: AtomicRepresentable>(
        _ type: Value.Type, _ offset: Int
    ) -> UnsafeMutablePointer<Atomic<Value>> {
        precondition(
            offset >= 0 && offset <= byteCount - MemoryLayout<Value>.size,
            "a field lies within the area")
        // SAFETY: checked just now; an atomic has the layout of its value, and the fields of a ring
        // are aligned because its areas are.
        return unsafe (base + offset).assumingMemoryBound(to: Atomic<Value>.self)
    }
}

/// A full barrier: what was stored before it is visible before anything is loaded after it.
public func fullFence() {
    atomicMemoryFence(ordering: .sequentiallyConsistent)
}
