// SPDX-License-Identifier: Apache-2.0

/// One value at a stable address, which a class on the data path changes without an exclusivity
/// check.
///
/// SAFETY: the value is initialised at birth and lives as long as the cell, which one thread uses.
@safe public struct Cell<Value: ~Copyable>: ~Copyable {
    private let pointer: UnsafeMutablePointer<Value>

    public init(_ value: consuming Value) {
        unsafe pointer = .allocate(capacity: 1)
        unsafe pointer.initialize(to: value)
    }

    deinit {
        unsafe pointer.deinitialize(count: 1)
        unsafe pointer.deallocate()
    }

    /// The value, in place.
    @inline(__always)
    public var value: Value {
        unsafeAddress {
            // SAFETY: initialised, and alive as long as the cell.
            unsafe UnsafePointer(pointer)
        }
        nonmutating unsafeMutableAddress {
            // SAFETY: initialised, and alive as long as the cell.
            unsafe pointer
        }
    }
}
