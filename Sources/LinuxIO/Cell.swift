// SPDX-License-Identifier: Apache-2.0

/// A value at a stable address, reached without a check for overlapping accesses.
///
/// For the state that one thread's objects change with every request. An access ends before
/// anything is called that may come back: nothing here is passed `inout` to a caller's code.
@safe public struct Cell<Value: ~Copyable>: ~Copyable {
    private let address: UnsafeMutablePointer<Value>

    /// Moves the value to a place of its own.
    public init(_ value: consuming Value) {
        unsafe address = .allocate(capacity: 1)
        unsafe address.initialize(to: value)
    }

    deinit {
        unsafe address.deinitialize(count: 1)
        unsafe address.deallocate()
    }

    /// The value, in place.
    public var value: Value {
        @inline(__always)
        unsafeAddress {
            // SAFETY: initialised at birth; lives as long as the cell.
            unsafe UnsafePointer(address)
        }
        @inline(__always)
        nonmutating unsafeMutableAddress {
            // SAFETY: as above.
            unsafe address
        }
    }
}
