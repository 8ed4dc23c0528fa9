// SPDX-License-Identifier: Apache-2.0

/// Work that was deferred, first come first served.
///
/// A ring that grows when it is full: once it has its size, nothing is allocated, and a piece of work
/// is moved in and out without being copied.
///
/// SAFETY: the `count` places from `first` on, round the end of the memory, are initialised.
@safe struct WorkQueue: ~Copyable {
    private var places: UnsafeMutablePointer<any DeferredWork>
    /// A power of two.
    private var capacity = 16
    private var first = 0
    private(set) var count = 0

    init() {
        unsafe places = .allocate(capacity: 16)
    }

    deinit {
        for offset in 0..<count {
            unsafe (places + (first &+ offset) & (capacity &- 1)).deinitialize(count: 1)
        }
        unsafe places.deallocate()
    }

    var isEmpty: Bool { count == 0 }

    mutating func append(_ work: any DeferredWork) {
        if count == capacity { grow() }
        unsafe (places + (first &+ count) & (capacity &- 1)).initialize(to: work)
        count &+= 1
    }

    mutating func removeFirst() -> (any DeferredWork)? {
        guard count > 0 else { return nil }
        let place = first
        first = (first &+ 1) & (capacity &- 1)
        count &-= 1
        return unsafe (places + place).move()
    }

    @inline(never)
    private mutating func grow() {
        let larger = UnsafeMutablePointer<any DeferredWork>.allocate(capacity: capacity * 2)
        for offset in 0..<count {
            unsafe (larger + offset).initialize(
                to: (places + (first &+ offset) & (capacity &- 1)).move())
        }
        unsafe places.deallocate()
        unsafe places = larger
        capacity *= 2
        first = 0
    }
}
