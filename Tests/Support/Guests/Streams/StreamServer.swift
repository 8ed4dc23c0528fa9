// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// Serves `StreamExchange` requests on a listening socket, one thread a connection.
public final class StreamServer: Sendable {
    /// What the server has seen.
    public struct Statistics: Equatable, Sendable {
        public var openConnections = 0
        public var mostOpenConnections = 0
        public var finishedConnections = 0
        public var failures: [String] = []
    }

    private let listener: StreamSocket
    private let counters = Mutex(Statistics())

    /// Listens at `address` and serves until `stop`.
    public init(at address: StreamAddress) throws(StreamError) {
        listener = try address.listen()
        detachThread { [self] in acceptConnections() }
    }

    public var statistics: Statistics {
        counters.withLock { $0 }
    }

    /// Refuses further connections; those that are open run on.
    public func stop() {
        listener.interrupt()
    }

    private func acceptConnections() {
        while let connection = try? listener.accept() {  // A listener that was stopped throws.
            counters.withLock { counters in
                counters.openConnections += 1
                counters.mostOpenConnections = max(
                    counters.mostOpenConnections, counters.openConnections)
            }
            detachThread { [self] in serve(connection) }
        }
    }

    private func serve(_ connection: StreamSocket) {
        var failure: StreamError?
        do throws(StreamError) {
            try StreamExchange(over: connection).serve()
        } catch {
            failure = error
        }
        counters.withLock { counters in
            counters.openConnections -= 1
            counters.finishedConnections += 1
            if let failure { counters.failures.append("\(failure)") }
        }
    }
}
