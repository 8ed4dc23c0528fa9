// SPDX-License-Identifier: Apache-2.0

/// Where guest memory that the device wrote is recorded, so that a migration copies it again.
///
/// A mark is made after the data was written and no later than the used buffer is published.
public protocol DirtyLog: AnyObject {
    /// Guest memory was written.
    func markDirty(_ address: GuestAddress, byteCount: UInt64)
}
