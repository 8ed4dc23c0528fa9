// SPDX-License-Identifier: Apache-2.0

/// How the driver is signalled: an eventfd that the front-end gave.
public protocol DriverNotifier: AnyObject {
    /// Signals the driver: used buffers are there.
    func notifyDriver()
}

/// Records which buffers are in flight, where a successor of a crashed back-end finds it.
public protocol InflightJournal: AnyObject {
    /// A buffer was taken, before the device acts on it.
    func bufferTaken(id: UInt16, descriptorCount: UInt16)
    /// A buffer was handed back: it is not in flight any more.
    func bufferHandedBack(id: UInt16)
    /// Buffers are about to be published as used.
    func willPublish(_ used: Span<UsedBuffer>)
    /// Those buffers have been published; the used index is now `usedIndex`.
    func didPublish(_ used: Span<UsedBuffer>, usedIndex: UInt32)
}
