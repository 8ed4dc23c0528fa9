// SPDX-License-Identifier: Apache-2.0

// Queues on other threads than their device's.
//
// A device lives on one loop's thread, its owner's. It may have some of its queues served on the
// threads of other loops: it names the server of a queue (`VirtioDevice.server(ofQueueAt:)`), and
// the transport then calls that server in place of the device for this queue, on the server's own
// thread, from the queue's start to its stop.
//
// A `Virtqueue` belongs to one thread at a time. The transport makes it on the owner's thread, and
// gives it away in a letter (`QueueServerAddress.post`) before anybody has used it; from then on the
// server's thread alone touches it, for good: it is not given back, only what is to be known of it
// is told (where it ended, why it broke). Its `memory` is a table of its own over the same mappings,
// which stay mapped for as long as the queue lives; so no two threads share a table.
//
// Letters to one server are opened in the order in which they were posted, whoever posted them
// from one thread; so a start comes before the stop that follows it, and a successor of a queue
// starts after its predecessor was stopped, if perhaps before it has drained.

public import LinuxIO

/// Serves queues: a device, or whoever serves some of its queues in its place.
///
/// Everything here is called on one thread, that of whoever serves.
public protocol QueueHandler: AnyObject {
    /// A queue starts. It is kept until `stopQueue`; whatever buffers are in it already are
    /// announced by `driverNotified`.
    func startQueue(_ queue: Virtqueue, at index: Int)

    /// There may be new buffers in a queue that was started.
    func driverNotified(queueAt index: Int)

    /// A queue stops: take no more buffers from it, put every buffer that was taken as soon as it
    /// is done, then forget the queue. The queue itself reports when it is drained
    /// (`Virtqueue.whenDrained`).
    ///
    /// Where the wait for that was given up, another queue may start at this index before.
    func stopQueue(at index: Int)

    /// The time to drain is over: end every request of the stopped queue that can be ended without
    /// touching guest memory later.
    func expediteStop(ofQueueAt index: Int)
}

/// Serves some of a device's queues on a thread of its own.
///
/// A server lives on its loop's thread: everything here is called on it, never on the device's. For
/// its queues it is called as a device is for those that the device serves itself; what is not named
/// in `QueueHandler` (features, configuration, reset) stays the device's.
public protocol QueueServer: QueueHandler {
    /// The loop that the server lives on. Does not change.
    ///
    /// The transport watches the driver's notifications there.
    var loop: EventLoop { get }
}

/// Where letters to a queue server go: what other threads may hold of it.
public struct QueueServerAddress: Sendable {
    /// What is done with the server, on the server's thread.
    public typealias Letter = @Sendable (any QueueServer) -> Void

    private let deliver: @Sendable (@escaping Letter) -> Void

    /// An address with a way of its own to get there.
    ///
    /// - Parameter deliver: called on any thread; has the letter opened on the server's, after those
    ///   that the same thread gave it before. A letter to a server that has ended may be dropped.
    public init(_ deliver: @escaping @Sendable (@escaping Letter) -> Void) {
        self.deliver = deliver
    }

    /// The server that a thread is there for.
    public init<Server: QueueServer & SendableMetatype>(_ thread: LoopThread<Server>) {
        deliver = { letter in thread.post { letter($0) } }
    }

    /// Has the letter opened on the server's thread.
    ///
    /// Any thread may call this.
    public func post(_ letter: @escaping Letter) {
        deliver(letter)
    }
}
