// SPDX-License-Identifier: Apache-2.0

/// What a driver (or a front-end) did wrong with a queue.
///
/// The queue is broken until it is reset.
public enum VirtqueueError: Error, Equatable, Sendable {
    /// Not a legal number of entries.
    case illegalSize(Int)
}
