// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO

/// What takes a client more than one question.
extension ControlClient {
    /// How often a service that drains is asked whether it is dry.
    private static let pause: UInt32 = 50_000

    /// Shows on standard output what the service does, again and again: in a terminal always at the same
    /// place, else one after the other.
    ///
    /// - Parameters:
    ///   - interval: seconds between two looks, more than zero.
    ///   - count: how often; nil for as long as the service lives.
    ///   - json: a line of JSON each time.
    /// - Throws: why the service does not answer.
    public func watch(
        every interval: Double, count: Int?, json: Bool
    ) throws(ServiceFailure) {
        let clock = SystemClock()
        var before = try ask(ControlRequest(.connections))
        var time = clock.now
        var left = count ?? .max
        while left > 0 {
            usleep(UInt32(min(max(interval, 0.001), 3600) * 1_000_000))
            let after = try ask(ControlRequest(.connections))
            let now = clock.now
            show(
                LiveRates(
                    from: before, to: after, nanoseconds: now.nanoseconds - time.nanoseconds),
                json: json)
            (before, time) = (after, now)
            left -= 1
        }
    }

    private func show(_ rates: LiveRates, json: Bool) {
        let output = StandardStream.output
        if json { return output.write(rates.json + "\n") }
        guard output.isTerminal else { return output.write(rates.text() + "\n") }
        // To the first column of the first line; what follows the text is cleared (ECMA-48, CUP, ED).
        output.write("\u{1B}[H\u{1B}[J" + rates.text(lineLimit: output.lineCount ?? 24))
    }

    /// Has the service take nothing new, and waits until nothing is under way any more.
    ///
    /// - Parameter seconds: how long to wait.
    /// - Returns: the last status.
    /// - Throws: why the service does not answer.
    public func drain(within seconds: UInt64) throws(ServiceFailure) -> ControlReply {
        _ = try ask(ControlRequest(.drain))
        let clock = SystemClock()
        let end = clock.now.advanced(
            byNanoseconds: Duration.seconds(Int64(min(seconds, 1_000_000))).wholeNanoseconds)
        while true {
            let reply = try ask(ControlRequest(.status))
            if reply.status?.isDry == true || clock.now >= end { return reply }
            usleep(Self.pause)
        }
    }
}

extension ServiceStatus {
    /// Whether nothing is under way any more: no command, no connection.
    public var isDry: Bool {
        silentDevices.isEmpty && (scsi?.underWayCount ?? 0) == 0
            && (vsock?.connectionCount ?? 0) == 0
    }

    /// What is under way, in words.
    public var underWay: String {
        var parts: [String] = []
        if let count = scsi?.underWayCount { parts.append("\(count) commands") }
        if let vsock { parts.append("\(vsock.connectionCount) connections") }
        return parts.joined(separator: ", ")
    }
}
