// SPDX-License-Identifier: Apache-2.0

/// A reference that keeps nothing alive, for the data path: to use it costs no retain.
///
/// SAFETY: whoever keeps one sees to it that the object outlives it, by holding the object elsewhere.
@safe public struct BorrowedReference<Object: AnyObject>: BitwiseCopyable {
    private let reference: Unmanaged<Object>

    public init(_ object: Object) {
        unsafe reference = .passUnretained(object)
    }

    /// Calls `body` with the object.
    @inline(__always)
    public func with<Result>(_ body: (Object) -> Result) -> Result {
        // SAFETY: the keeper holds the object elsewhere for as long as it keeps the reference.
        unsafe reference._withUnsafeGuaranteedRef { body($0) }
    }
}
