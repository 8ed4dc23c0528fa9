// SPDX-License-Identifier: Apache-2.0

/// An object that is told of something on the data path, or nobody.
///
/// Asking whether it is set is one load; calling it retains and releases nothing.
///
/// SAFETY: the hook holds the one reference to its box that `passRetained` counted.
@safe struct Hook<Target>: ~Copyable {
    private final class Box {
        let target: Target
        init(_ target: Target) { self.target = target }
    }

    private var box: Unmanaged<Box>?

    init(_ target: Target? = nil) {
        unsafe box = target.map { unsafe Unmanaged.passRetained(Box($0)) }
    }

    deinit {
        // SAFETY: balances the retain of the initialiser.
        unsafe box?.release()
    }

    @inline(__always)
    var isSet: Bool { unsafe box != nil }

    /// The object, for callers off the data path.
    var target: Target? {
        // SAFETY: the box is retained for as long as this hook has it.
        unsafe box?._withUnsafeGuaranteedRef { $0.target }
    }

    /// Calls `body` with the object, if there is one; `body` must not exchange the hook.
    @inline(__always)
    func withTarget(_ body: (Target) -> Void) {
        // SAFETY: the box is retained for as long as this hook has it, and `body` leaves it alone.
        if let box = unsafe box { unsafe box._withUnsafeGuaranteedRef { body($0.target) } }
    }
}
