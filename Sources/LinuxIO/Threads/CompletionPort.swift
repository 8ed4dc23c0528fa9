// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
public import SystemPackage

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
///
/// The port belongs to that thread and is registered with the loop until it is closed or goes;
/// results that come later are dropped. It does not keep its handler.
public final class CompletionPort {
    private let results: Results
    private let pool: WorkerPool
    private let loop: EventLoop
    private let registration: Registration

    /// Registers with the loop until `close`.
    public init(
        loop: EventLoop, pool: WorkerPool, handler: any CompletionHandler
    ) throws(Errno) {
        results = try Results()
        self.pool = pool
        self.loop = loop
        registration = try loop.add(
            results.wakeUp.descriptor.rawValue, interest: [.readable, .edgeTriggered],
            handler: Receiver(results: results, handler: handler))
    }

    deinit {
        loop.remove(registration)
    }

    /// Makes a lane of the pool.
    public func makeLane(limit: Int? = nil) -> WorkerLane { pool.makeLane(limit: limit) }

    /// Has the job done on a worker thread; its result comes back with the token.
    public func submit(
        token: UInt64, in lane: WorkerLane? = nil, _ job: @escaping @Sendable () -> Int
    ) {
        pool.submit(in: lane) { [results] in results.append(token: token, result: job()) }
    }

    /// Ends the reports to the loop.
    public func close(loop: EventLoop) {
        loop.remove(registration)
    }
}

/// What has been done and not been told yet; kept by the port, the loop and the jobs under way.
private final class Results: Sendable {
    private let finished = Mutex<[(token: UInt64, result: Int)]>([])
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

    func takeAll() -> [(token: UInt64, result: Int)] {
        finished.withLock { finished in
            let taken = finished
            finished = []
            return taken
        }
    }
}

/// The loop's end of a port.
private final class Receiver: EventHandler {
    private let results: Results
    private weak var handler: (any CompletionHandler)?

    init(results: Results, handler: any CompletionHandler) {
        self.results = results
        self.handler = handler
    }

    func descriptorReady(_ readiness: Readiness, tag: Int) {
        let finished = results.takeAll()
        guard let handler else { return }
        for (token, result) in finished { handler.workCompleted(token: token, result: result) }
    }
}
