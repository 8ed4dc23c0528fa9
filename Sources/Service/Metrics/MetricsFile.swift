// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SystemPackage

/// Writes the figures to a file from time to time, for node_exporter's textfile collector.
///
/// It belongs to the main thread. The file is replaced as a whole; it goes with the service, so that
/// no old figures are taken for new ones.
final class MetricsFile: TimerHandler {
    private let path: String
    private let interval: Duration
    private let loop: EventLoop
    private let census: Census
    private let log = Logger(label: "metrics")
    private var hasFailed = false
    private var isClosed = false

    /// Writes for the first time at once.
    init(path: String, interval: Duration, loop: EventLoop, census: Census) {
        self.path = path
        self.interval = interval
        self.loop = loop
        self.census = census
        timerFired(tag: 0)
    }

    func timerFired(tag: Int) {
        if isClosed { return }
        loop.setTimer(after: interval, handler: self)
        census.take { [weak self] status in self?.write(status.metrics(.prometheus)) }
    }

    private func write(_ text: String) {
        if isClosed { return }
        do throws(Errno) {
            try SmallFile.replace(path, with: Array(text.utf8))
            hasFailed = false
        } catch {
            // Once, not every few seconds for as long as the disk is full.
            if !hasFailed {
                log.warning(
                    "cannot write the figures", metadata: ["path": "\(path)", "error": "\(error)"])
            }
            hasFailed = true
        }
    }

    /// Writes no more, and removes the file.
    func close() {
        isClosed = true
        SmallFile.remove(path)
    }
}
