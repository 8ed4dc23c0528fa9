// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import Virtio

extension Session {
    /// Stops queues, and goes on when they have drained.
    ///
    /// - Parameters:
    ///   - rings: those whose queues are stopped; others run on.
    ///   - limits: how long to wait.
    ///   - exchange: what is answered with the outcome, if that has to wait.
    ///   - body: what is to be done when nothing is in flight any more, or the wait was given up.
    /// - Returns: what `body` returned, or `pending`.
    /// - Throws: what `body` throws, unless that has to wait: then it is the exchange's answer.
    func quiesce(
        _ rings: [Ring], limits: DrainLimits, _ exchange: Exchange,
        _ body: @escaping (_ isDrained: Bool) throws(VhostUserError) -> Outcome
    ) throws(VhostUserError) -> Outcome {
        let drain = stopQueues(of: rings)
        let isDrained = drain.wait(limits) { [self] in
            do throws(VhostUserError) {
                conclude(exchange, try settle(drain, body))
            } catch {
                refuse(exchange, error)
            }
            if !isEnding { connection.release() }
        }
        guard isDrained else {
            self.drain = drain
            return .pending
        }
        return try settle(drain, body)
    }

    private func stopQueues(of rings: [Ring]) -> Drain {
        let drain = self.drain ?? Drain(loop: loop, orphanage: orphanage)
        for ring in rings {
            if let run = ring.endRun() { drain.add(ring, run) }
        }
        return drain
    }

    private func settle(
        _ drain: Drain, _ body: (_ isDrained: Bool) throws(VhostUserError) -> Outcome
    ) throws(VhostUserError) -> Outcome {
        keepBases(drain)
        self.drain = nil
        defer { startReadyRings() }
        return try body(drain.isDrained)
    }

    /// The last signals go out, and each ring remembers where it was.
    private func keepBases(_ drain: Drain) {
        for entry in drain.entries {
            if entry.run.isDrained { entry.run.settle() }
            entry.ring.keepBase(of: entry.run)
        }
        guard drain.isAbandoned, !drain.isDrained else { return }
        logger.critical(
            "requests are still in flight although the time to end them is over",
            metadata: ["queues": "\(orphanage.queueCount)"])
    }

    // MARK: The end

    /// Ends the session because the front-end has gone or cannot be talked to.
    func end() {
        connection.close()
        if !isEnding { end(options.drainLimits.hurried) }
    }

    /// Ends the session: drains the queues, then closes the connection.
    ///
    /// - Parameter limits: how long that may take, from now, even if it has begun before.
    func end(_ limits: DrainLimits) {
        isEnding = true
        connection.hold()
        for ring in rings { ring.dropKick() }
        let drain = stopQueues(of: rings)
        self.drain = drain
        if drain.wait(limits, { [self] in clear(drain) }) { clear(drain) }
    }

    private func clear(_ drain: Drain) {
        keepBases(drain)
        self.drain = nil
        device.reset()
        for ring in rings {
            ring.reset()
            ring.close()
        }
        rings = []
        memory.replace(with: GuestMemory())
        stopLogging()
        migrationLog.bitmap = nil
        backEndChannel = nil
        connection.close()
        ended()
    }
}
