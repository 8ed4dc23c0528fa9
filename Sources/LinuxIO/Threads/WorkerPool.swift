// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
public import SystemPackage

/// A few threads for what the kernel can only do by blocking: buffered files, fallocate, name
/// look-up.
///
/// Results come back to a loop through a `CompletionPort`.
public final class WorkerPool: Sendable {
    private struct State {
        var jobs: [@Sendable () -> Void] = []
        var isStopping = false
    }

    private let state = Mutex(State())
    private let available = SemaphoreStorage()
    private let threads = Mutex<[pthread_t]>([])

    /// Starts the threads.
    ///
    /// - Parameters:
    ///   - name: what the kernel shows for the threads, at most 15 bytes.
    ///   - threadCount: how many, at least one.
    /// - Throws: the errno of making a thread.
    public init(name: String, threadCount: Int) throws(Errno) {
        for _ in 0..<max(1, threadCount) {
            let thread = try startThread(name: name) { [self] in work() }
            threads.withLock { $0.append(thread) }
        }
    }

    /// Has the job done by the next free thread.
    ///
    /// Any thread may call this.
    public func submit(_ job: @escaping @Sendable () -> Void) {
        state.withLock { $0.jobs.append(job) }
        available.post()
    }

    /// Finishes the jobs that were submitted, ends the threads and waits for them.
    public func stopAndJoin() {
        let threads = threads.withLock { threads in
            let taken = threads
            threads = []
            return taken
        }
        state.withLock { $0.isStopping = true }
        for _ in threads { available.post() }
        for thread in threads { joinThread(thread) }
    }

    private func work() {
        while true {
            available.wait()
            let (job, isStopping) = state.withLock { state in
                (state.jobs.isEmpty ? nil : state.jobs.removeFirst(), state.isStopping)
            }
            if let job {
                job()
            } else if isStopping {
                return
            }
        }
    }
}

/// Who hears of work that was done on another thread.
public protocol CompletionHandler: AnyObject {
    /// The work is done. Called on the loop's thread.
    ///
    /// - Parameters:
    ///   - token: the number given with the work.
    ///   - result: what the work returned; by convention a count, or a negative errno.
    func workCompleted(token: UInt64, result: Int)
}

/// Carries results of worker threads back to the thread of a loop.
public final class CompletionPort: EventHandler {
    private final class Results: Sendable {
        let finished = Mutex<[(token: UInt64, result: Int)]>([])
        let wakeUp: EventCounter

        init() throws(Errno) {
            wakeUp = try EventCounter()
        }

        func append(token: UInt64, result: Int) {
            let wasEmpty = finished.withLock { finished in
                finished.append((token, result))
                return finished.count == 1
            }
            if wasEmpty { wakeUp.signal() }
        }
    }

    private let results: Results
    private let pool: WorkerPool
    private weak var handler: (any CompletionHandler)?
    private let registration: Registration

    /// Registers with the loop until `close`.
    public init(
        loop: EventLoop, pool: WorkerPool, handler: any CompletionHandler
    ) throws(Errno) {
        let results = try Results()
        let relay = Relay()
        registration = try loop.add(
            results.wakeUp.descriptor.rawValue, interest: [.readable, .edgeTriggered],
            handler: relay)
        self.results = results
        self.pool = pool
        self.handler = handler
        relay.port = self
    }

    /// Has the job done on a worker thread; its result comes back with the token.
    public func submit(token: UInt64, _ job: @escaping @Sendable () -> Int) {
        let results = results
        pool.submit { results.append(token: token, result: job()) }
    }

    /// Ends the reports to the loop.
    public func close(loop: EventLoop) {
        loop.remove(registration)
    }

    /// Hands the results over; called by the loop.
    public func descriptorReady(_ readiness: Readiness, tag: Int) {
        let finished = results.finished.withLock { finished in
            let taken = finished
            finished = []
            return taken
        }
        for (token, result) in finished { handler?.workCompleted(token: token, result: result) }
    }

    /// What the loop keeps, so that the port itself may go without being closed first.
    private final class Relay: EventHandler {
        weak var port: CompletionPort?

        func descriptorReady(_ readiness: Readiness, tag: Int) {
            port?.descriptorReady(readiness, tag: tag)
        }
    }
}
