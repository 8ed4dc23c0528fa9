// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
public import SystemPackage

/// A few threads for what the kernel can only do by blocking: buffered files, fallocate, name
/// look-up.
///
/// Results come back to a loop through a `CompletionPort`. The threads keep the pool until
/// `stopAndJoin`.
public final class WorkerPool: Sendable {
    private struct State {
        /// Jobs in order; those before `first` were taken.
        var jobs: [(@Sendable () -> Void)?] = []
        var first = 0
        var isStopping = false

        mutating func takeJob() -> (@Sendable () -> Void)? {
            guard first < jobs.count else { return nil }
            let job = jobs[first]
            jobs[first] = nil
            first += 1
            if first == jobs.count || first > 1024 {
                jobs.removeFirst(first)
                first = 0
            }
            return job
        }
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
        do throws(Errno) {
            for _ in 0..<max(1, threadCount) {
                let thread = try startThread(name: name) { [self] in work() }
                threads.withLock { $0.append(thread) }
            }
        } catch {
            stopAndJoin()
            throw error
        }
    }

    /// Has the job done by the next free thread.
    ///
    /// Any thread may call this, before `stopAndJoin`; a job that comes later is not done.
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
            let (job, isStopping) = state.withLock { ($0.takeJob(), $0.isStopping) }
            if let job {
                job()
            } else if isStopping {
                return
            }
        }
    }
}
