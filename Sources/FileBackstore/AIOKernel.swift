// SPDX-License-Identifier: Apache-2.0

import CLibaio
import Glibc
import LinuxIO
import Synchronization

/// The kernel's side of asynchronous I/O, as one context sees it.
///
/// A seam: the tests put a kernel in between that refuses, shortens and fails what they say. Every
/// requirement is called once a batch, never once a request. One thread uses it.
package protocol AIOKernel: AnyObject {
    /// Makes room for `requestCount` requests under way.
    ///
    /// - Returns: 0, or a negative errno.
    func setUp(requestCount: Int) -> Int

    /// Hands requests over.
    ///
    /// - Returns: how many were accepted from the first on, or the negative errno with which the
    ///   first was refused.
    func submit(_ requests: UnsafeMutablePointer<UnsafeMutablePointer<iocb>?>, count: Int) -> Int

    /// Ended requests that wait to be looked at, none when empty. Valid until `consume`.
    func completions() -> UnsafeBufferPointer<io_event>

    /// Whether `completions` makes no system call.
    var completionsAreFree: Bool { get }

    /// Gives back the first `count` of what `completions` returned.
    func consume(_ count: Int)
}

/// Kernel AIO through libaio.
///
/// Ended requests are read from the ring that the kernel maps into the process, without a system
/// call; where the ring is not the one we know, through `io_getevents`.
///
/// Lives on its device's thread.
@safe package final class LibaioKernel: AIOKernel {
    /// Ended requests that `io_getevents` takes at once.
    private static let batchSize = 64

    private let state = Cell(State())

    /// What `setUp` makes.
    @safe private struct State {
        var context: io_context_t?
        var ring: AIORing?
        /// Where `io_getevents` stores when the ring is not known.
        var batch: UnsafeMutablePointer<io_event>?
    }

    package init() {}

    deinit {
        // SAFETY: the kernel waits here until no request is under way, so that none writes into
        // memory that goes afterwards. The batch is ours.
        if let context = unsafe state.value.context { _ = unsafe io_destroy(context) }
        unsafe state.value.batch?.deallocate()
    }

    /// The corresponding C function is `io_setup`.
    package func setUp(requestCount: Int) -> Int {
        var context: io_context_t?
        // SAFETY: io_setup stores the context in the local that it is given.
        let result = unsafe io_setup(Int32(requestCount), &context)
        guard result == 0, let context = unsafe context else { return Int(result) }
        unsafe state.value.context = context
        state.value.ring = unsafe AIORing(UnsafeMutableRawPointer(context))
        if state.value.ring == nil {
            unsafe state.value.batch = .allocate(capacity: Self.batchSize)
        }
        return 0
    }

    /// The corresponding C function is `io_submit`.
    package func submit(
        _ requests: UnsafeMutablePointer<UnsafeMutablePointer<iocb>?>, count: Int
    ) -> Int {
        // SAFETY: the caller vouches for `count` requests, which stay where they are until they
        // have ended.
        unsafe Int(io_submit(state.value.context, count, requests))
    }

    package func completions() -> UnsafeBufferPointer<io_event> {
        if let ring = state.value.ring { return unsafe ring.completions() }
        var now = timespec()
        // SAFETY: the batch holds batchSize events.
        let count = unsafe io_getevents(
            state.value.context, 0, Self.batchSize, state.value.batch, &now)
        return unsafe UnsafeBufferPointer(start: state.value.batch, count: max(0, Int(count)))
    }

    package var completionsAreFree: Bool { state.value.ring != nil }

    package func consume(_ count: Int) {
        state.value.ring?.consume(count)
    }
}

/// The ring of ended requests that the kernel maps behind an `io_context_t` (struct aio_ring).
///
/// SAFETY: the mapping lives until io_destroy, which its one user calls last. The kernel writes
/// the events before it moves `tail`, we read them before we move `head`.
@safe struct AIORing {
    /// AIO_RING_MAGIC.
    private static let magic: UInt32 = 0xa10a_10a1
    /// Bytes of the header, before the first event.
    private static let headerByteCount = 32

    private let base: UnsafeMutableRawPointer
    private let capacity: UInt32

    /// Nil when the header is not the one that we know.
    init?(_ base: UnsafeMutableRawPointer) {
        // SAFETY: the kernel maps at least one page, which the header opens.
        let capacity = unsafe base.load(fromByteOffset: 4, as: UInt32.self)
        let magic = unsafe base.load(fromByteOffset: 16, as: UInt32.self)
        let incompatible = unsafe base.load(fromByteOffset: 24, as: UInt32.self)
        let header = unsafe base.load(fromByteOffset: 28, as: UInt32.self)
        guard magic == Self.magic, incompatible == 0, header == UInt32(Self.headerByteCount),
            capacity > 0
        else { return nil }
        unsafe self.base = base
        self.capacity = capacity
    }

    private var head: UnsafeMutablePointer<Atomic<UInt32>> {
        unsafe (base + 8).assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    private var tail: UnsafeMutablePointer<Atomic<UInt32>> {
        unsafe (base + 12).assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    /// The events from the head to the tail, or to the end of the ring.
    func completions() -> UnsafeBufferPointer<io_event> {
        // SAFETY: both indices stay below the capacity; the acquiring load of the tail comes
        // before the reads of the events that it covers.
        let first = unsafe head.pointee.load(ordering: .relaxed)
        let last = unsafe tail.pointee.load(ordering: .acquiring)
        let end = last >= first ? last : capacity
        let events = unsafe (base + Self.headerByteCount).assumingMemoryBound(to: io_event.self)
        return unsafe UnsafeBufferPointer(start: events + Int(first), count: Int(end &- first))
    }

    /// Moves the head on; the kernel may write over what it has passed.
    func consume(_ count: Int) {
        let first = unsafe head.pointee.load(ordering: .relaxed)
        let next = first &+ UInt32(truncatingIfNeeded: count)
        unsafe head.pointee.store(next >= capacity ? next &- capacity : next, ordering: .releasing)
    }
}
