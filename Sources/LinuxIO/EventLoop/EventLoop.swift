// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// One thread's wait for descriptors, moments and messages.
///
/// A turn is: wait, handle what is ready, fire the timers that are due, then do the deferred work
/// until none is left. The loop and everything registered with it belong to the thread that runs
/// it; other threads reach it through its `mailbox` only.
public final class EventLoop {
    /// Events taken from the kernel in one call.
    private static let batchSize = 64

    private let poll: OwnedDescriptor
    private let clock: any MonotonicClock
    private var slots: [RegistrationSlot] = []
    private var freeSlots: [UInt32] = []
    private var timers = TimerQueue()
    private var deferred: [any DeferredWork] = []
    private var isStopping = false

    /// The way in for other threads.
    public let mailbox: Mailbox

    /// Makes an epoll instance and a mailbox.
    public init(clock: any MonotonicClock = SystemClock()) throws(Errno) {
        poll = OwnedDescriptor(taking: try systemCall { epoll_create1(Int32(EPOLL_CLOEXEC)) })
        self.clock = clock
        mailbox = try Mailbox()
        try add(mailbox.descriptorNumber, interest: [.readable, .edgeTriggered], handler: mailbox)
    }

    /// The time, as this loop's clock tells it.
    public var now: Instant { clock.now }

    // MARK: Descriptors

    /// Starts to report a descriptor's readiness to a handler.
    ///
    /// The descriptor must stay open until `remove`. The corresponding C function is `epoll_ctl`.
    ///
    /// - Parameters:
    ///   - descriptor: the number of an open descriptor.
    ///   - interest: what to report.
    ///   - handler: kept until `remove`.
    ///   - tag: handed to the handler with each report.
    /// - Returns: what `modify` and `remove` take.
    /// - Throws: the errno of epoll_ctl.
    @discardableResult
    public func add(
        _ descriptor: Int32, interest: Interest, handler: any EventHandler, tag: Int = 0
    ) throws(Errno) -> Registration {
        let index: UInt32
        if let free = freeSlots.popLast() {
            index = free
        } else {
            index = UInt32(slots.count)
            slots.append(RegistrationSlot())
        }
        let slot = Int(index)
        slots[slot].handler = handler
        slots[slot].tag = tag
        slots[slot].descriptor = descriptor
        let registration = Registration(index: index, generation: slots[slot].generation)
        do {
            try control(EPOLL_CTL_ADD, descriptor, interest, registration.token)
        } catch {
            vacate(index)
            throw error
        }
        return registration
    }

    /// Changes what is reported.
    ///
    /// A stale registration is a mistake of ours.
    public func modify(_ registration: Registration, interest: Interest) throws(Errno) {
        precondition(isCurrent(registration), "a registration is modified before it is removed")
        let descriptor = slots[Int(registration.index)].descriptor
        try control(EPOLL_CTL_MOD, descriptor, interest, registration.token)
    }

    /// Ends the reports; events that the kernel has already handed over reach nobody.
    ///
    /// To be called before the descriptor is closed. Removing twice does nothing.
    public func remove(_ registration: Registration) {
        guard isCurrent(registration) else { return }
        let descriptor = slots[Int(registration.index)].descriptor
        // A descriptor that a handler has closed already is out of the epoll set by itself.
        try? control(EPOLL_CTL_DEL, descriptor, [], 0)
        vacate(registration.index)
    }

    private func isCurrent(_ registration: Registration) -> Bool {
        let index = Int(registration.index)
        return slots.indices.contains(index)
            && slots[index].generation == registration.generation
            && slots[index].handler != nil
    }

    private func vacate(_ index: UInt32) {
        slots[Int(index)].handler = nil
        slots[Int(index)].descriptor = -1
        slots[Int(index)].generation &+= 1
        freeSlots.append(index)
    }

    private func control(
        _ operation: Int32, _ descriptor: Int32, _ interest: Interest, _ token: UInt64
    ) throws(Errno) {
        let poll = poll.rawValue
        // SAFETY: epoll_ctl reads the one event, a local, whose 64 bits of data are ours.
        var event = unsafe epoll_event()
        unsafe event.events = interest.rawValue
        unsafe event.data.u64 = token
        try systemCall { unsafe epoll_ctl(poll, operation, descriptor, &event) }
    }

    // MARK: Timers and deferred work

    /// Calls the handler once, `delay` from now or a little later.
    @discardableResult
    public func setTimer(
        after delay: Duration, handler: any TimerHandler, tag: Int = 0
    ) -> TimerToken {
        let deadline = now.advanced(byNanoseconds: delay.wholeNanoseconds)
        return timers.insert(deadline: deadline, handler: handler, tag: tag)
    }

    /// Forgets a timer; nothing happens when it has fired.
    public func cancel(_ timer: TimerToken) {
        timers.cancel(timer)
    }

    /// Has the work done once at the end of this turn.
    public func deferWork(_ work: any DeferredWork) {
        if work.isWorkDeferred { return }
        work.isWorkDeferred = true
        deferred.append(work)
    }

    // MARK: Turning

    /// Turns until `stop`.
    public func run() throws(Errno) {
        while !isStopping { try turn(waitingAtMost: nil) }
        isStopping = false
    }

    /// Ends `run` after the present turn.
    public func stop() {
        isStopping = true
    }

    /// One turn.
    ///
    /// - Parameter limit: how long to wait for something to happen; nil for as long as it takes.
    /// - Throws: the errno of epoll_wait.
    public func turn(waitingAtMost limit: Duration?) throws(Errno) {
        try waitAndDispatch(timeout: timeoutMilliseconds(limit))
        fireTimers()
        performDeferredWork()
    }

    private func waitAndDispatch(timeout: Int32) throws(Errno) {
        var failure: Errno?
        unsafe withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: Self.batchSize) {
            events in
            do throws(Errno) {
                let poll = poll.rawValue
                // SAFETY: the kernel fills at most batchSize events of the allocation; only those
                // that it says it filled are read.
                let count = try systemCall {
                    unsafe epoll_wait(poll, events.baseAddress, Int32(Self.batchSize), timeout)
                }
                for index in 0..<Int(count) {
                    let (token, readiness) = unsafe (events[index].data.u64, events[index].events)
                    dispatch(token: token, readiness: readiness)
                }
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    private func dispatch(token: UInt64, readiness: UInt32) {
        let slot = slots[Int(UInt32(truncatingIfNeeded: token))]
        guard slot.generation == UInt32(truncatingIfNeeded: token >> 32) else { return }
        slot.handler?.descriptorReady(Readiness(rawValue: readiness), tag: slot.tag)
    }

    private func fireTimers() {
        guard let deadline = timers.nextDeadline, deadline <= now else { return }
        let moment = now
        while let timer = timers.popDue(at: moment) { timer.handler.timerFired(tag: timer.tag) }
    }

    private func performDeferredWork() {
        while !deferred.isEmpty {
            let work = deferred
            deferred.removeAll(keepingCapacity: true)
            for item in work {
                item.isWorkDeferred = false
                item.performDeferredWork()
            }
        }
    }

    private func timeoutMilliseconds(_ limit: Duration?) -> Int32 {
        // Work that was deferred between two turns does not wait for an event.
        if isStopping || !deferred.isEmpty { return 0 }
        var nanoseconds = limit?.wholeNanoseconds ?? .max
        if let deadline = timers.nextDeadline {
            let current = now
            let wait = deadline > current ? deadline.nanoseconds - current.nanoseconds : 0
            nanoseconds = min(nanoseconds, wait)
        }
        if nanoseconds == .max { return -1 }
        let milliseconds = nanoseconds / 1_000_000 + (nanoseconds % 1_000_000 == 0 ? 0 : 1)
        return Int32(clamping: milliseconds)
    }
}
