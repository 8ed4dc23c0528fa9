// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// One thread's wait for descriptors, moments and messages.
///
/// A turn is: wait, handle what is ready, fire the timers that are due, then do the deferred work
/// until none is left, or for so many rounds that the descriptors need a look. Where it is allowed to
/// (`pollLimit`), the loop polls for a moment before it waits. The loop and everything registered with
/// it belong to the thread that runs it; other threads reach it through its `mailbox` only.
public final class EventLoop {
    /// Events taken from the kernel in one call.
    private static let batchSize = 64

    /// Rounds of deferred work before the loop looks at its descriptors again.
    private static let roundLimit = 16

    private let poll: OwnedDescriptor
    private let clock: any MonotonicClock
    private let state = Cell(State())
    /// What is polled, and for how long.
    let poller = Cell(Poller())

    /// What changes as the loop turns.
    private struct State: ~Copyable {
        var registrations = RegistrationTable()
        var timers = TimerQueue()
        var deferred = WorkQueue()
        var isStopping = false
        var isDispatching = false
        var endsStalls = false

        mutating func takeTimers() -> TimerQueue {
            let taken = timers
            timers = TimerQueue()
            return taken
        }
    }

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
        let registration = state.value.registrations.insert(
            descriptor, handler: handler, tag: tag)
        do {
            try control(EPOLL_CTL_ADD, descriptor, interest, registration.token)
        } catch {
            state.value.registrations.remove(registration)
            throw error
        }
        return registration
    }

    /// Changes what is reported.
    ///
    /// A stale registration is a mistake of ours.
    public func modify(_ registration: Registration, interest: Interest) throws(Errno) {
        guard let descriptor = state.value.registrations.descriptor(of: registration) else {
            preconditionFailure("a registration is modified before it is removed")
        }
        try control(EPOLL_CTL_MOD, descriptor, interest, registration.token)
    }

    /// Ends the reports; events that the kernel has already handed over reach nobody.
    ///
    /// To be called before the descriptor is closed. Removing twice does nothing.
    public func remove(_ registration: Registration) {
        guard let descriptor = state.value.registrations.descriptor(of: registration) else {
            return
        }
        // A descriptor that a handler has closed already is out of the epoll set by itself.
        try? control(EPOLL_CTL_DEL, descriptor, [], 0)
        removeBeforeClose(registration)
    }

    /// Ends the reports for a descriptor that nobody else holds and that is closed right away: the
    /// kernel then forgets it by itself, which saves a system call.
    public func removeBeforeClose(_ registration: Registration) {
        state.value.registrations.remove(registration)
        if !state.value.isDispatching { _ = state.value.registrations.takeRetired() }
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
        return state.value.timers.insert(deadline: deadline, handler: handler, tag: tag)
    }

    /// Forgets a timer; nothing happens when it has fired.
    public func cancel(_ timer: TimerToken) {
        state.value.timers.cancel(timer)
    }

    /// Has the work done once at the end of this turn.
    public func deferWork(_ work: any DeferredWork) {
        if work.isWorkDeferred { return }
        work.isWorkDeferred = true
        state.value.deferred.append(work)
    }

    // MARK: Turning

    /// Has a system call that hangs end with EINTR, after half a second at the latest.
    ///
    /// For a loop that uses descriptors of a peer: the peer can take their O_NONBLOCK off at any
    /// time, and then fill or empty what they lead to. Costs a wake-up and two system calls per
    /// half a second in which something happens, nothing while nothing does.
    func endStalls() {
        state.value.endsStalls = true
    }

    /// How long a call may hang.
    private static let stallMilliseconds: Int32 = 500

    /// Turns until `stop`.
    public func run() throws(Errno) {
        while !state.value.isStopping { try turn(waitingAtMost: nil) }
        state.value.isStopping = false
    }

    /// Ends `run` after the present turn.
    public func stop() {
        state.value.isStopping = true
    }

    /// One turn.
    ///
    /// - Parameter limit: how long to wait for something to happen; nil for as long as it takes.
    /// - Throws: the errno of epoll_wait.
    public func turn(waitingAtMost limit: Duration?) throws(Errno) {
        let timeout = timeoutNanoseconds(limit)
        if poller.value.isOn {
            try pollOrWait(timeout: timeout)
        } else {
            try waitAndDispatch(timeout: timeout)
        }
        fireTimers()
        performDeferredWork()
    }

    /// When the first timer is due.
    var nextDeadline: Instant? { state.value.timers.nextDeadline }

    /// Whether timers that are due in less than a millisecond are exact to some microseconds; if not
    /// (before Linux 5.11), they fire after a millisecond.
    public static let hasExactTimers = cl_has_exact_waits() != 0

    /// Handles what is ready, after so many nanoseconds at most; nil for as long as it takes.
    func waitAndDispatch(timeout: Int64?) throws(Errno) {
        var failure: Errno?
        unsafe withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: Self.batchSize) {
            events in
            do throws(Errno) {
                let poll = poll.rawValue
                if state.value.endsStalls { cl_stall_alarm_pause() }
                // SAFETY: the kernel fills at most batchSize events of the allocation; only those
                // that it says it filled are read.
                let count = try systemCall {
                    unsafe Self.wait(poll, events.baseAddress, timeout)
                }
                if state.value.endsStalls { _ = cl_stall_alarm_start(Self.stallMilliseconds) }
                state.value.isDispatching = true
                for index in 0..<Int(count) {
                    let (token, readiness) = unsafe (events[index].data.u64, events[index].events)
                    dispatch(token: token, readiness: readiness)
                }
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        state.value.isDispatching = false
        if state.value.registrations.hasRetired { _ = state.value.registrations.takeRetired() }
    }

    /// Waits: for whole milliseconds, except for less than one; the timeout is in nanoseconds, nil
    /// for as long as it takes.
    private static func wait(
        _ poll: Int32, _ events: UnsafeMutablePointer<epoll_event>?, _ timeout: Int64?
    ) -> Int32 {
        // SAFETY: the caller's allocation holds batchSize events.
        guard let timeout else {
            return unsafe epoll_wait(poll, events, Int32(batchSize), -1)
        }
        if timeout > 0 && timeout < 1_000_000 {
            return unsafe cl_epoll_wait_exactly(poll, events, Int32(batchSize), timeout)
        }
        let milliseconds = timeout / 1_000_000 + (timeout % 1_000_000 == 0 ? 0 : 1)
        return unsafe epoll_wait(poll, events, Int32(batchSize), Int32(clamping: milliseconds))
    }

    /// A handler that is removed while it runs, or by another one, lives until the batch is done.
    private func dispatch(token: UInt64, readiness: UInt32) {
        guard let target = state.value.registrations.target(token: token) else { return }
        target.descriptorReady(Readiness(rawValue: readiness))
    }

    /// A timer that is set meanwhile waits for the next turn.
    private func fireTimers() {
        guard let deadline = state.value.timers.nextDeadline else { return }
        let moment = now
        if deadline > moment { return }
        let limit = state.value.timers.nextIdentifier
        while let timer = state.value.timers.popDue(at: moment, setBefore: limit) {
            timer.handler.timerFired(tag: timer.tag)
        }
    }

    private func performDeferredWork() {
        var rounds = 0
        while !state.value.deferred.isEmpty && rounds < Self.roundLimit {
            for _ in 0..<state.value.deferred.count {
                guard let work = state.value.deferred.removeFirst() else { break }
                work.isWorkDeferred = false
                work.performDeferredWork()
            }
            rounds += 1
        }
    }

    /// Lets go of every handler, timer and piece of work: what they keep would keep the loop.
    func removeEverything() {
        state.value.registrations.removeAll()
        let handlers = state.value.registrations.takeRetired()
        let timers = state.value.takeTimers()
        if state.value.endsStalls { cl_stall_alarm_end() }
        let polled = poller.value.takeAll()
        while state.value.deferred.removeFirst() != nil {}
        withExtendedLifetime((handlers, timers, polled)) {}
    }

    private func timeoutNanoseconds(_ limit: Duration?) -> Int64? {
        // Work that was deferred between two turns does not wait for an event.
        if state.value.isStopping || !state.value.deferred.isEmpty { return 0 }
        var nanoseconds = limit.map { Int64(clamping: $0.wholeNanoseconds) }
        if let deadline = state.value.timers.nextDeadline {
            let current = now
            let wait = deadline > current ? deadline.nanoseconds - current.nanoseconds : 0
            nanoseconds = min(nanoseconds ?? .max, Int64(clamping: wait))
        }
        return nanoseconds
    }
}
