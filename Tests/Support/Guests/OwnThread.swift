// SPDX-License-Identifier: Apache-2.0

/// Runs `body`, which may block for long, on a thread of its own but within the current task, so that
/// it keeps none of the few threads that run all asynchronous code.
public func onOwnThread<Result: Sendable>(
    _ body: @escaping @Sendable () throws -> Result
) async throws -> Result {
    try await withTaskExecutorPreference(ThreadExecutor()) {
        try await runHere(body)
    }
}

@concurrent
private func runHere<Result: Sendable>(
    _ body: @escaping @Sendable () throws -> Result
) async throws -> Result {
    try body()
}

/// Runs each piece of a task on a new thread.
private final class ThreadExecutor: TaskExecutor {
    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        // SAFETY: the thread holds the executor as long as it runs the job, and runs it once.
        detachThread { [self] in unsafe job.runSynchronously(on: asUnownedTaskExecutor()) }
    }
}
