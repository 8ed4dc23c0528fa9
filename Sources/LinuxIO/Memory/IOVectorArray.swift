// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A growing list of memory pieces, as `readv` and `writev` take them.
///
/// The pieces lie in guest memory (or in a buffer of ours); the list does not own them. Whoever
/// fills it sees to it that they stay mapped for as long as the list is used. The list grows when
/// it must and never shrinks, so that filling it again allocates nothing.
///
/// SAFETY: the storage has room for `capacity` pieces, and the first `count` are initialised. Only
/// slices know it besides, and they end when the list changes.
@safe public struct IOVectorArray: ~Copyable {
    private var storage: UnsafeMutablePointer<iovec>
    /// Pieces that fit before the list grows.
    public private(set) var capacity: Int
    /// Pieces in the list.
    public private(set) var count = 0

    /// An empty list with room for `capacity` pieces, at least one.
    public init(capacity: Int) {
        precondition(capacity > 0, "a list of pieces has room for at least one")
        self.capacity = capacity
        unsafe storage = .allocate(capacity: capacity)
    }

    deinit {
        unsafe storage.deallocate()
    }

    /// Forgets every piece, keeps the room.
    @inline(__always)
    public mutating func removeAll() {
        count = 0
    }

    /// Forgets the pieces from `newCount` on.
    @inline(__always)
    public mutating func truncate(to newCount: Int) {
        precondition(newCount <= count, "truncation does not add pieces")
        count = newCount
    }

    /// Adds a piece.
    @inline(__always)
    public mutating func append(_ base: UnsafeMutableRawPointer, byteCount: Int) {
        if count == capacity { grow(toHold: count + 1) }
        // SAFETY: count < capacity, the number of pieces in the storage.
        unsafe storage[count] = iovec(iov_base: base, iov_len: byteCount)
        count &+= 1
    }

    /// Makes room for `additional` more pieces, so that `appendReserved` may add them.
    @inline(__always)
    public mutating func reserve(_ additional: Int) {
        if additional > capacity &- count { grow(toHold: count + additional) }
    }

    /// The place behind the last piece, for who has reserved room and adds pieces there.
    @inline(__always)
    public var end: UnsafeMutablePointer<iovec> { unsafe storage + count }

    /// How many pieces come before a place that `end` gave, or one behind it.
    @inline(__always)
    public func index(of place: UnsafeMutablePointer<iovec>) -> Int {
        // Unsigned, for a division that is a shift: the place is not before the storage.
        unsafe Int(
            (UInt(bitPattern: place) &- UInt(bitPattern: storage))
                / UInt(MemoryLayout<iovec>.stride))
    }

    /// Counts the pieces that were added up to `end`.
    @inline(__always)
    public mutating func setEnd(_ end: UnsafeMutablePointer<iovec>) {
        count = unsafe index(of: end)
        assert(count >= 0 && count <= capacity, "room was reserved")
    }

    /// The pieces of `range` without their first `offset` bytes.
    ///
    /// Where that cuts a piece in two, pieces are added for what is left.
    @inline(__always)
    public mutating func split(_ range: Range<Int>, after offset: Int) -> Range<Int> {
        precondition(range.upperBound <= count, "a range lies within the list")
        // SAFETY: within the list, checked just now.
        if !range.isEmpty, unsafe storage[range.lowerBound].iov_len == offset {
            return range.lowerBound &+ 1..<range.upperBound
        }
        return append(slice(range), from: offset, byteCount: .max)
    }

    /// Adds pieces for some of the bytes of other pieces.
    ///
    /// - Parameters:
    ///   - pieces: of this list or of another one.
    ///   - offset: bytes from the start of the first of them.
    ///   - byteCount: how many bytes.
    /// - Returns: where the new pieces stand; they are fewer bytes than asked for when `pieces` are.
    @discardableResult
    public mutating func append(
        _ pieces: IOVectorSlice, from offset: Int, byteCount: Int
    ) -> Range<Int> {
        let first = count
        var skip = offset
        var left = byteCount
        if capacity - count < pieces.count {
            // The pieces may be this list's own, which move when it grows.
            let own = unsafe pieces.base - storage
            let areOwn = own >= 0 && own < count
            reserve(pieces.count)
            if areOwn {
                let moved = slice(own..<own + pieces.count)
                return append(moved, from: offset, byteCount: byteCount)
            }
        }
        var index = 0
        while index < pieces.count && left > 0 {
            // SAFETY: below the number of pieces of the slice.
            let piece = unsafe pieces.base[index]
            let length = unsafe piece.iov_len
            index += 1
            if skip >= length {
                skip -= length
            } else if let base = unsafe piece.iov_base {
                let taken = min(length - skip, left)
                unsafe append(base + skip, byteCount: taken)
                skip = 0
                left -= taken
            }
        }
        return first..<count
    }

    @inline(never)
    private mutating func grow(toHold needed: Int) {
        let newCapacity = max(capacity * 2, needed)
        let larger = UnsafeMutablePointer<iovec>.allocate(capacity: newCapacity)
        // SAFETY: both hold at least `count` pieces; an iovec is trivial.
        unsafe larger.update(from: storage, count: count)
        unsafe storage.deallocate()
        unsafe storage = larger
        capacity = newCapacity
    }

    /// A view of some of the pieces, valid until the list is changed or goes.
    @inline(__always)
    public func slice(_ range: Range<Int>) -> IOVectorSlice {
        precondition(range.upperBound <= count, "a slice lies within the list")
        return unsafe IOVectorSlice(base: storage + range.lowerBound, count: range.count)
    }

    /// A view of every piece, valid until the list is changed or goes.
    @inline(__always)
    public var all: IOVectorSlice { unsafe IOVectorSlice(base: storage, count: count) }

    /// Cuts `byteCount` bytes from the front of the pieces in `range`, which shrinks by the pieces
    /// that are used up.
    ///
    /// Pieces outside the range are not touched.
    ///
    /// - Returns: false when the range holds fewer bytes; it is then empty.
    @discardableResult
    public mutating func dropFirst(_ byteCount: Int, of range: inout Range<Int>) -> Bool {
        precondition(range.upperBound <= count, "a range lies within the list")
        var left = byteCount
        var index = range.lowerBound
        while left > 0 && index < range.upperBound {
            let length = unsafe storage[index].iov_len
            if length > left {
                unsafe storage[index].iov_base += left
                unsafe storage[index].iov_len = length - left
                left = 0
            } else {
                left -= length
                index += 1
            }
        }
        range = index..<range.upperBound
        return left == 0
    }

    /// Cuts the pieces in `range` off after `byteCount` bytes; the range shrinks with them.
    public mutating func keepFirst(_ byteCount: Int, of range: inout Range<Int>) {
        precondition(range.upperBound <= count, "a range lies within the list")
        var left = byteCount
        var index = range.lowerBound
        while left > 0 && index < range.upperBound {
            let length = unsafe storage[index].iov_len
            if length > left { unsafe storage[index].iov_len = left }
            left -= min(left, length)
            index += 1
        }
        range = range.lowerBound..<index
    }
}
