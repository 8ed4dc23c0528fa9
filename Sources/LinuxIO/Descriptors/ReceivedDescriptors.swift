// SPDX-License-Identifier: Apache-2.0

/// The descriptors that came with one message, in the order in which they were sent.
///
/// Whatever nobody takes is closed when this object goes, so that no path through a handler can
/// leak one.
///
/// Belongs to one thread at a time, whichever made it.
public final class ReceivedDescriptors {
    private var rawValues: [Int32?]

    /// Takes over the given open descriptors.
    public init(taking rawValues: [Int32] = []) {
        self.rawValues = rawValues
    }

    deinit {
        for case .some(let rawValue) in rawValues { _ = OwnedDescriptor(taking: rawValue) }
    }

    /// How many descriptors came, taken or not.
    public var count: Int { rawValues.count }

    /// Takes the descriptor at `index`; nil when there is none, or it was taken before.
    public func take(_ index: Int = 0) -> OwnedDescriptor? {
        guard rawValues.indices.contains(index), let rawValue = rawValues[index] else { return nil }
        rawValues[index] = nil
        return OwnedDescriptor(taking: rawValue)
    }
}
