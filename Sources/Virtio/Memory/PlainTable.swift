// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// A fixed number of plain values, zero at first, for the data path.
///
/// An index is checked in debug builds only: every user has checked it against the size of the
/// ring, or counted it up to the capacity, before it gets here.
@safe struct PlainTable<Element: BitwiseCopyable>: ~Copyable {
    private let pages: ZeroedPages
    /// The values, for as long as the table lives.
    let view: PlainTableView<Element>

    /// A table of `count` values, at least one, all bits zero.
    init(count: Int) {
        pages = ZeroedPages(byteCount: count * MemoryLayout<Element>.stride)
        // SAFETY: the pages hold `count` values, are aligned for any type and read as zero.
        unsafe view = PlainTableView(
            elements: pages.base.bindMemory(to: Element.self, capacity: count), count: count)
    }

    @inline(__always)
    subscript(index: Int) -> Element {
        get { view[index] }
        nonmutating set { view[index] = newValue }
    }

    /// The first bytes of the table as an area; valid as long as the table.
    func area(byteCount: Int) -> SharedArea {
        precondition(byteCount <= pages.byteCount, "an area lies within the table")
        return unsafe SharedArea(base: pages.base, byteCount: byteCount)
    }
}

/// The values of a `PlainTable`, which outlives the view.
@safe struct PlainTableView<Element: BitwiseCopyable> {
    private let elements: UnsafeMutablePointer<Element>
    private let count: Int

    fileprivate init(elements: UnsafeMutablePointer<Element>, count: Int) {
        unsafe self.elements = elements
        self.count = count
    }

    @inline(__always)
    subscript(index: Int) -> Element {
        get {
            assert(index >= 0 && index < count, "an index lies within the table")
            // SAFETY: see `PlainTable`.
            return unsafe elements[index]
        }
        nonmutating set {
            assert(index >= 0 && index < count, "an index lies within the table")
            // SAFETY: see `PlainTable`.
            unsafe elements[index] = newValue
        }
    }
}
