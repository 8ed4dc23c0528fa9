// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// A fixed number of plain values, zero at first, for the data path.
///
/// An index is checked in debug builds only: every user has checked it against the size of the
/// ring, or counted it up to the capacity, before it gets here.
@safe struct PlainTable<Element: BitwiseCopyable>: ~Copyable {
    private let pages: ZeroedPages
    private let elements: UnsafeMutablePointer<Element>
    /// How many values.
    let count: Int

    /// A table of `count` values, at least one, all bits zero.
    init(count: Int) {
        pages = ZeroedPages(byteCount: count * MemoryLayout<Element>.stride)
        // SAFETY: the pages hold `count` values, are aligned for any type and read as zero.
        unsafe elements = pages.base.bindMemory(to: Element.self, capacity: count)
        self.count = count
    }

    @inline(__always)
    subscript(index: Int) -> Element {
        get {
            assert(index >= 0 && index < count, "an index lies within the table")
            // SAFETY: see above; the pages live as long as the table.
            return unsafe elements[index]
        }
        nonmutating set {
            assert(index >= 0 && index < count, "an index lies within the table")
            // SAFETY: see above; the pages live as long as the table.
            unsafe elements[index] = newValue
        }
    }

    /// Calls `body` with the first `count` values.
    func withFirst(_ count: Int, _ body: (Span<Element>) -> Void) {
        precondition(count >= 0 && count <= self.count, "a span lies within the table")
        // SAFETY: within the table, which outlives the call.
        body(unsafe Span(_unsafeStart: elements, count: count))
    }

    /// The first bytes of the table as an area; valid as long as the table.
    func area(byteCount: Int) -> SharedArea {
        precondition(byteCount <= pages.byteCount, "an area lies within the table")
        return unsafe SharedArea(base: pages.base, byteCount: byteCount)
    }
}
