// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Synchronization

/// Guest memory that the driver reads and writes while we do: a ring, or a part of one.
///
/// Every access is one load or one store of the width that is named; what was loaded is a private
/// copy. Offsets are bytes; they are checked in debug builds only, because each ring checks its
/// indices against its size, and its area against guest memory, before it gets here.
///
/// Ordering: on x86-64 a plain load acquires and a plain store releases, so the orderings below
/// only hold the compiler back there; on arm64 they become LDAR(H) and STLR(H).
///
/// SAFETY: whoever makes an area has found its bytes in guest memory, which stays mapped meanwhile.
@safe struct SharedArea {
    private let base: UnsafeMutableRawPointer
    private let byteCount: Int

    /// - Parameters:
    ///   - base: stays mapped for as long as the area is used.
    ///   - byteCount: bytes that may be touched from there.
    init(base: UnsafeMutableRawPointer, byteCount: Int) {
        unsafe self.base = base
        self.byteCount = byteCount
    }

    /// Whether the area starts at a multiple of `alignment` bytes in our own address space.
    func isAligned(to alignment: Int) -> Bool {
        // SAFETY: only looked at as a number.
        unsafe UInt(bitPattern: base) % UInt(alignment) == 0
    }

    @inline(__always)
    private func address(at offset: Int, byteCount: Int) -> UnsafeMutableRawPointer {
        assert(offset >= 0 && offset + byteCount <= self.byteCount, "an access lies in the area")
        return unsafe base + offset
    }

    @inline(__always)
    func load16(at offset: Int) -> UInt16 {
        // SAFETY: mapped, see above; aligned to 2 as every area and field is.
        unsafe address(at: offset, byteCount: 2).assumingMemoryBound(to: Atomic<UInt16>.self)
            .pointee.load(ordering: .relaxed)
    }

    @inline(__always)
    func loadAcquiring16(at offset: Int) -> UInt16 {
        // SAFETY: mapped, see above; aligned to 2 as every area and field is.
        unsafe address(at: offset, byteCount: 2).assumingMemoryBound(to: Atomic<UInt16>.self)
            .pointee.load(ordering: .acquiring)
    }

    @inline(__always)
    func load32(at offset: Int) -> UInt32 {
        // SAFETY: mapped, see above; the caller's area is aligned to 4.
        unsafe address(at: offset, byteCount: 4).assumingMemoryBound(to: Atomic<UInt32>.self)
            .pointee.load(ordering: .relaxed)
    }

    @inline(__always)
    func load64(at offset: Int) -> UInt64 {
        // SAFETY: mapped, see above; the caller's area is aligned to 8.
        unsafe address(at: offset, byteCount: 8).assumingMemoryBound(to: Atomic<UInt64>.self)
            .pointee.load(ordering: .relaxed)
    }

    @inline(__always)
    func loadAcquiring64(at offset: Int) -> UInt64 {
        // SAFETY: mapped, see above; the caller's area is aligned to 8.
        unsafe address(at: offset, byteCount: 8).assumingMemoryBound(to: Atomic<UInt64>.self)
            .pointee.load(ordering: .acquiring)
    }

    @inline(__always)
    func store16(_ value: UInt16, at offset: Int) {
        // SAFETY: mapped, see above; aligned to 2 as every area and field is.
        unsafe address(at: offset, byteCount: 2).assumingMemoryBound(to: Atomic<UInt16>.self)
            .pointee.store(value, ordering: .relaxed)
    }

    @inline(__always)
    func storeReleasing16(_ value: UInt16, at offset: Int) {
        // SAFETY: mapped, see above; aligned to 2 as every area and field is.
        unsafe address(at: offset, byteCount: 2).assumingMemoryBound(to: Atomic<UInt16>.self)
            .pointee.store(value, ordering: .releasing)
    }

    @inline(__always)
    func store64(_ value: UInt64, at offset: Int) {
        // SAFETY: mapped, see above; the caller's area is aligned to 8.
        unsafe address(at: offset, byteCount: 8).assumingMemoryBound(to: Atomic<UInt64>.self)
            .pointee.store(value, ordering: .relaxed)
    }

    @inline(__always)
    func storeReleasing64(_ value: UInt64, at offset: Int) {
        // SAFETY: mapped, see above; the caller's area is aligned to 8.
        unsafe address(at: offset, byteCount: 8).assumingMemoryBound(to: Atomic<UInt64>.self)
            .pointee.store(value, ordering: .releasing)
    }

    /// Stores eight bytes of any alignment that the driver does not look at yet.
    @inline(__always)
    func storeUnaligned64(_ value: UInt64, at offset: Int) {
        // SAFETY: mapped, see above.
        unsafe address(at: offset, byteCount: 8).storeBytes(of: value, as: UInt64.self)
    }
}

extension SharedArea {
    /// Copies pieces of memory here, from the start on; they are as long as the area.
    func copyBytes(from pieces: IOVectorSlice) {
        // SAFETY: nobody else uses the area meanwhile: it is a table of ours.
        var target = unsafe MutableRawSpan(_unsafeStart: base, byteCount: byteCount)
        let copied = pieces.copyBytes(into: &target)
        precondition(copied == byteCount, "the pieces are as long as the area")
    }
}

/// Orders everything before against everything after, stores against later loads included.
///
/// x86-64 needs it too (a locked instruction): it lets a load overtake an earlier store. On arm64
/// it is DMB ISH.
@inline(__always)
func fullFence() {
    atomicMemoryFence(ordering: .sequentiallyConsistent)
}
