// SPDX-License-Identifier: Apache-2.0

/// A value at an address that does not change, with one owner.
///
/// What the data path works on stands behind a pointer, not in a class's `var`: that would cost a
/// retain and an exclusivity check an access.
///
/// SAFETY: the value is initialised at birth and lives as long as its owner; one thread uses it.
@safe struct Pinned<Value: ~Copyable>: ~Copyable {
    /// The value, for whoever is sure to go before this owner.
    let reference: PinnedReference<Value>

    init(_ value: consuming Value) {
        let pointer = UnsafeMutablePointer<Value>.allocate(capacity: 1)
        unsafe pointer.initialize(to: value)
        unsafe reference = PinnedReference(pointer)
    }

    deinit {
        // SAFETY: initialised above, and this is its one owner.
        unsafe reference.pointer.deinitialize(count: 1)
        unsafe reference.pointer.deallocate()
    }

    /// The value, in place.
    @inline(__always)
    var value: Value {
        unsafeAddress {
            // SAFETY: the value lives as long as this owner.
            unsafe UnsafePointer(reference.pointer)
        }
        nonmutating unsafeMutableAddress {
            // SAFETY: the value lives as long as this owner; one thread uses it.
            unsafe reference.pointer
        }
    }
}

/// A pinned value of another owner, who outlives this reference.
@safe struct PinnedReference<Value: ~Copyable> {
    fileprivate let pointer: UnsafeMutablePointer<Value>

    fileprivate init(_ pointer: UnsafeMutablePointer<Value>) {
        unsafe self.pointer = pointer
    }

    /// The value, in place.
    @inline(__always)
    var value: Value {
        unsafeAddress {
            // SAFETY: the owner outlives the reference.
            unsafe UnsafePointer(pointer)
        }
        nonmutating unsafeMutableAddress {
            // SAFETY: the owner outlives the reference; one thread uses the value.
            unsafe pointer
        }
    }
}
