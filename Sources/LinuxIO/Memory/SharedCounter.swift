// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A number that several processes see and count up, in memory that is mapped from a file.
///
/// SAFETY: the word is aligned, is touched atomically only, and stays mapped as long as whoever handed
/// the counter out lives; whoever uses it sees to that. `constant` is never freed.
@safe public struct SharedCounter: BitwiseCopyable, @unchecked Sendable {
    private let word: UnsafeMutablePointer<Atomic<UInt64>>

    /// The counter in the first eight bytes of a mapping, whose owner outlives it.
    init(in region: borrowing MappedRegion) {
        precondition(region.byteCount >= 8, "a counter has eight bytes")
        unsafe word = region.base.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    private init() {
        unsafe word = .allocate(capacity: 1)
        unsafe word.initialize(to: Atomic(0))
    }

    /// A counter that stays 0, where there is nothing to count.
    public static let constant = SharedCounter()

    /// What it says now; what was done before it was counted up to this can be seen.
    @inline(__always)
    public var value: UInt64 { unsafe word.pointee.load(ordering: .acquiring) }

    /// Counts one up, before anything that the caller does later can be seen.
    func increment() {
        _ = unsafe word.pointee.wrappingAdd(1, ordering: .sequentiallyConsistent)
    }
}
