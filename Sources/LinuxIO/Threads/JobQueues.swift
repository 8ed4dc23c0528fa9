// SPDX-License-Identifier: Apache-2.0

/// The jobs of a worker pool, lane by lane, and who may start next.
struct JobQueues {
    typealias Job = @Sendable () -> Void

    /// What belongs to a lane with jobs that wait or are under way.
    private struct Lane {
        let limit: Int
        /// In order; those before `first` were taken.
        var jobs: [Job?] = []
        var first = 0
        var runningCount = 0
        /// Whether the lane stands among those with a job that may start.
        var isReady = false

        var hasJobs: Bool { first < jobs.count }
        /// Threads that the lane has, or has to have for its first job.
        var threadCount: Int { max(1, runningCount) }

        mutating func takeJob() -> Job? {
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

    private var lanes: [Int: Lane] = [:]
    /// Lanes with a job that may start, in the order of their turns.
    private var ready: [Int] = []
    /// Threads that are needed so that each lane with jobs has one at least.
    private var neededCount = 0
    /// Threads there are.
    var threadCount: Int
    /// Lanes that were made.
    var laneCount = 0
    var isStopping = false

    init(threadCount: Int) {
        self.threadCount = threadCount
    }

    mutating func append(_ job: @escaping Job, in lane: WorkerLane) {
        if lanes[lane.number] == nil {
            lanes[lane.number] = Lane(limit: lane.limit)
            neededCount += 1
        }
        lanes[lane.number]?.jobs.append(job)
        makeReady(lane.number)
    }

    /// Whether a lane would go without a thread; then the caller makes one, which is counted.
    mutating func claimThread(limit: Int) -> Bool {
        guard neededCount > threadCount, threadCount < limit, !isStopping else { return false }
        threadCount += 1
        return true
    }

    /// The next job, and its lane's number; nil when there is none that may start.
    mutating func takeJob() -> (Job, Int)? {
        guard !ready.isEmpty else { return nil }
        let number = ready.removeFirst()
        lanes[number]?.isReady = false
        guard let job = lanes[number]?.takeJob() else { return nil }
        setRunningCount(of: number, by: 1)
        makeReady(number)
        return (job, number)
    }

    mutating func jobEnded(in number: Int) {
        setRunningCount(of: number, by: -1)
        makeReady(number)
        guard let lane = lanes[number], lane.runningCount == 0, !lane.hasJobs else { return }
        lanes[number] = nil
        neededCount -= 1
    }

    private mutating func setRunningCount(of number: Int, by change: Int) {
        neededCount -= lanes[number]?.threadCount ?? 0
        lanes[number]?.runningCount += change
        neededCount += lanes[number]?.threadCount ?? 0
    }

    private mutating func makeReady(_ number: Int) {
        guard let lane = lanes[number], lane.hasJobs, !lane.isReady,
            lane.runningCount < lane.limit
        else { return }
        lanes[number]?.isReady = true
        ready.append(number)
    }
}
