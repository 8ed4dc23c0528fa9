// SPDX-License-Identifier: Apache-2.0

/// Elements at stable addresses, named by their index, of which more are made when they are needed.
///
/// Grows by chunks and never shrinks: once as many elements exist as are in use at the busiest
/// time, nothing is allocated any more. One thread uses a slab.
///
/// SAFETY: the table has room for every chunk up to the limit; a chunk that exists is full of
/// initialised elements, and stays where it is.
@safe public final class GrowingSlab<Element: ~Copyable> {
    /// Elements a chunk: a power of two.
    public static var chunkCount: Int { 64 }

    /// How many elements there may be, a multiple of the chunk.
    public let limit: Int
    /// How many elements there are.
    public var count: Int { made.value }

    private let made = Cell(0)
    private let chunks: UnsafeMutablePointer<UnsafeMutablePointer<Element>?>
    private let make: () -> Element

    /// An empty slab that may grow to at least `limit` elements.
    public init(limit: Int, _ make: @escaping () -> Element) {
        let chunkLimit = max(1, (limit + Self.chunkCount - 1) / Self.chunkCount)
        self.limit = chunkLimit * Self.chunkCount
        self.make = make
        unsafe chunks = .allocate(capacity: chunkLimit)
        unsafe chunks.initialize(repeating: nil, count: chunkLimit)
    }

    deinit {
        for index in 0..<count / Self.chunkCount {
            // SAFETY: every chunk below the count was made by `grow`, whole.
            unsafe chunks[index]?.deinitialize(count: Self.chunkCount)
            unsafe chunks[index]?.deallocate()
        }
        unsafe chunks.deallocate()
    }

    /// Makes one chunk of elements more.
    ///
    /// - Returns: the indices of the new elements, none when the limit is reached.
    public func grow() -> Range<Int> {
        guard count < limit else { return count..<count }
        let chunk = UnsafeMutablePointer<Element>.allocate(capacity: Self.chunkCount)
        for index in 0..<Self.chunkCount {
            // SAFETY: within the allocation.
            unsafe (chunk + index).initialize(to: make())
        }
        // SAFETY: below the limit, which is what the table has room for.
        unsafe chunks[count / Self.chunkCount] = chunk
        made.value += Self.chunkCount
        return count - Self.chunkCount..<count
    }

    /// The element at `index`, in place.
    @inline(__always)
    public subscript(index: Int) -> Element {
        unsafeAddress {
            unsafe UnsafePointer(address(of: index))
        }
        unsafeMutableAddress {
            unsafe address(of: index)
        }
    }

    @inline(__always)
    private func address(of index: Int) -> UnsafeMutablePointer<Element> {
        precondition(index >= 0 && index < count, "an index lies within the slab")
        let number = UInt(bitPattern: index)
        // SAFETY: the chunk of every index below the count exists and lives as long as the slab.
        guard let chunk = unsafe chunks[Int(number / UInt(Self.chunkCount))] else {
            preconditionFailure("every chunk below the count exists")
        }
        return unsafe chunk + Int(number % UInt(Self.chunkCount))
    }
}
