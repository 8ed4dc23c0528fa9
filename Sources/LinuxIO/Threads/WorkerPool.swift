// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
public import SystemPackage

/// A few threads for what the kernel can only do by blocking: buffered files, fallocate, name
/// look-up.
///
/// Jobs of one lane, those about one file say, start in the order in which they came; lanes take
/// turns. A lane whose jobs hang does not hold up the others: when all threads are taken, one that
/// has none gets a new one.
///
/// Results come back to a loop through a `CompletionPort`. The threads keep the pool until
/// `stopAndJoin`.
public final class WorkerPool: Sendable {
    /// Threads of a pool, whatever hangs.
    public static let threadLimit = 64

    private let name: String
    /// Threads at the start; as many jobs of one lane may be under way.
    private let threadCount: Int
    private let jobs: Mutex<JobQueues>
    private let available = SemaphoreStorage()
    private let threads = Mutex<[pthread_t]>([])

    /// Starts the threads.
    ///
    /// - Parameters:
    ///   - name: what the kernel shows for the threads, at most 15 bytes.
    ///   - threadCount: how many, at least one.
    /// - Throws: the errno of making a thread.
    public init(name: String, threadCount: Int) throws(Errno) {
        self.name = name
        self.threadCount = max(1, threadCount)
        jobs = Mutex(JobQueues(threadCount: self.threadCount))
        do throws(Errno) {
            for _ in 0..<self.threadCount { try startThread() }
        } catch {
            stopAndJoin()
            throw error
        }
    }

    private func startThread() throws(Errno) {
        let thread = try LinuxIO.startThread(name: name) { [self] in work() }
        threads.withLock { $0.append(thread) }
    }

    /// Makes a lane.
    ///
    /// - Parameter limit: jobs of it that may be under way at once; nil for as many as the pool has
    ///   threads at its start.
    /// - Returns: a lane without jobs.
    public func makeLane(limit: Int? = nil) -> WorkerLane {
        jobs.withLock { jobs in
            jobs.laneCount += 1
            return WorkerLane(number: jobs.laneCount, limit: min(limit ?? threadCount, threadCount))
        }
    }

    /// Has the job done by the next free thread.
    ///
    /// Any thread may call this, before `stopAndJoin`; a job that comes later is not done.
    ///
    /// - Parameters:
    ///   - lane: with whose jobs it takes its turn; nil for the one that is everybody's.
    ///   - job: what blocks.
    public func submit(in lane: WorkerLane? = nil, _ job: @escaping @Sendable () -> Void) {
        let lane = lane ?? WorkerLane(number: 0, limit: threadCount)
        let isShort = jobs.withLock { jobs in
            jobs.append(job, in: lane)
            return jobs.claimThread(limit: Self.threadLimit)
        }
        if isShort { grow() }
        available.post()
    }

    /// The job that was just taken may hang: whoever waits has a thread all the same.
    private func growIfShort() {
        guard jobs.withLock({ $0.claimThread(limit: Self.threadLimit) }) else { return }
        grow()
        available.post()
    }

    /// One more thread, or, when the host has none left, as many as before.
    private func grow() {
        do throws(Errno) {
            try startThread()
        } catch {
            jobs.withLock { $0.threadCount -= 1 }
        }
    }

    /// Finishes the jobs that were submitted, ends the threads and waits for them.
    public func stopAndJoin() {
        jobs.withLock { $0.isStopping = true }
        // One that is joined may have made another one before it saw that.
        while true {
            let threads = threads.withLock { threads in
                let taken = threads
                threads = []
                return taken
            }
            if threads.isEmpty { return }
            for _ in threads { available.post() }
            for thread in threads { joinThread(thread) }
        }
    }

    private func work() {
        while true {
            available.wait()
            while let (job, lane) = jobs.withLock({ $0.takeJob() }) {
                growIfShort()
                job()
                jobs.withLock { $0.jobEnded(in: lane) }
            }
            if jobs.withLock({ $0.isStopping }) { return }
        }
    }
}

/// Jobs of a pool that belong together.
public struct WorkerLane: Sendable, BitwiseCopyable {
    let number: Int
    let limit: Int
}
