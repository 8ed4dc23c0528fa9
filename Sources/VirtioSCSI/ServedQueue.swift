// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Virtio

/// A virtqueue that runs, or that has been stopped with buffers still to be put.
///
/// Lives on its device's thread.
final class ServedQueue {
    let queue: Virtqueue
    let number: Int
    /// Tells queues of one number apart, where that matters.
    let serial: Int

    private struct State {
        var isStopping = false
        var isBroken = false
        var hasUsed = false
        var hasCut = false
        var isUnfinished = false
        var isWatched = false
    }

    private let state = Cell(State())

    init(_ queue: Virtqueue, number: Int, serial: Int = 0) {
        self.queue = queue
        self.number = number
        self.serial = serial
    }

    /// Whether buffers may be taken.
    @inline(__always)
    var isServed: Bool { !state.value.isStopping && !state.value.isBroken }

    /// Whether the queue was stopped.
    var isStopping: Bool { state.value.isStopping }

    /// Whether no more buffers are taken because the driver broke the rules.
    var isBroken: Bool { state.value.isBroken }

    /// Whether the queue was stopped, and every buffer is back with the driver who knows of it.
    var isFinished: Bool {
        state.value.isStopping && !state.value.hasUsed && queue.outstandingCount == 0
    }

    /// Whether it may have more buffers than were taken, and is gone on with later.
    @inline(__always)
    var isUnfinished: Bool {
        get { state.value.isUnfinished }
        set { state.value.isUnfinished = newValue }
    }

    /// Whether it is polled, and its driver need not notify.
    @inline(__always)
    var isWatched: Bool {
        get { state.value.isWatched }
        set { state.value.isWatched = newValue }
    }

    /// Whether a look at the ring says that there is something to take.
    @inline(__always)
    var hasNews: Bool { isServed && !isUnfinished && queue.hasAvailable }

    func stop() {
        state.value.isStopping = true
    }

    func markBroken() {
        state.value.isBroken = true
    }

    /// Notes a buffer that lies outside shared memory.
    ///
    /// - Returns: whether it is the first one.
    func noteCut() -> Bool {
        defer { state.value.hasCut = true }
        return !state.value.hasCut
    }

    /// Gives a buffer back.
    ///
    /// - Returns: whether it is the first one since the last flush.
    @inline(__always)
    func put(_ id: UInt16, writtenLength: Int) -> Bool {
        queue.put(
            UsedBuffer(id: id, writtenLength: UInt32(truncatingIfNeeded: writtenLength)))
        let isFirst = !state.value.hasUsed
        state.value.hasUsed = true
        return isFirst
    }

    /// Publishes what was put, and signals the driver if it wants to be.
    func flush() {
        state.value.hasUsed = false
        queue.flush()
        queue.signal()
    }
}
