// SPDX-License-Identifier: Apache-2.0

/// Carries a value in a letter from one thread to another.
///
/// SAFETY: (Sendable, unchecked) the sender does not touch the value any more once it has posted the
/// letter, and one receiver takes it, once; the mailbox orders the two. The compiler cannot see
/// that of what several objects of the sender's have made together, such as a queue.
public final class Handover<Value>: @unchecked Sendable {
    private var value: Value?

    /// Packs a value that the sender gives up.
    public init(_ value: Value) {
        self.value = value
    }

    /// Unpacks the value; nil when it was taken before.
    ///
    /// Called on the receiver's thread.
    public func take() -> Value? {
        defer { value = nil }
        return value
    }
}

/// An object of one thread, as others may hold it: to have it named in a letter, not to use it.
///
/// It does not keep the object.
///
/// SAFETY: (Sendable, unchecked) a weak reference may be copied, loaded and dropped on any thread;
/// it is loaded on the object's own thread only, so that nobody else ever ends the object.
public final class ThreadBound<Object: AnyObject>: @unchecked Sendable {
    private weak let reference: Object?

    /// Made on the object's thread.
    public init(_ object: Object) {
        reference = object
    }

    /// The object, for callers on its thread; nil when it has gone.
    public var object: Object? { reference }
}
