// SPDX-License-Identifier: Apache-2.0

/// A fixed number of elements at stable addresses, named by their index.
///
/// For what lives on the data path: an element is reached without a retain, without an exclusivity
/// check and without a copy. One thread uses a slab.
///
/// SAFETY: `count` elements are initialised at birth and live as long as the slab.
@safe public struct Slab<Element: ~Copyable>: ~Copyable {
    private let elements: UnsafeMutablePointer<Element>
    /// How many elements.
    public let count: Int

    /// Makes `count` elements.
    public init(count: Int, _ make: (Int) -> Element) {
        self.count = count
        unsafe elements = .allocate(capacity: max(1, count))
        for index in 0..<count { unsafe (elements + index).initialize(to: make(index)) }
    }

    deinit {
        unsafe elements.deinitialize(count: count)
        unsafe elements.deallocate()
    }

    /// The element at `index`, in place.
    @inline(__always)
    public subscript(index: Int) -> Element {
        unsafeAddress {
            precondition(index >= 0 && index < count, "an index lies within the slab")
            // SAFETY: checked just now; the element lives as long as the slab.
            return unsafe UnsafePointer(elements + index)
        }
        nonmutating unsafeMutableAddress {
            precondition(index >= 0 && index < count, "an index lies within the slab")
            // SAFETY: checked just now; the element lives as long as the slab.
            return unsafe elements + index
        }
    }
}
