// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import LinuxIO
import Logging
import SystemPackage

/// Writes the figures to a file from time to time, for node_exporter's textfile collector.
///
/// It belongs to the main thread. The file is replaced as a whole; it goes with the service, so that
/// no old figures are taken for new ones. What is there at the start is replaced when it holds figures, too:
/// a name that is given by mistake, that of a disk for one, costs nothing.
final class MetricsFile: TimerHandler {
    private let path: String
    private let interval: Duration
    private let loop: EventLoop
    private let census: Census
    private let log = Logger(label: "metrics")
    private var hasFailed = false
    private var isClosed = false

    /// Writes for the first time at once.
    ///
    /// - Throws: why the file may not be replaced.
    init(path: String, interval: Duration, loop: EventLoop, census: Census) throws {
        guard try Self.mayReplace(path) else {
            throw ServiceFailure(
                "\(path): what is there holds no figures; name another file, or remove it")
        }
        self.path = path
        self.interval = interval
        self.loop = loop
        self.census = census
        timerFired(tag: 0)
    }

    /// Whether nothing is at the path, or figures are.
    private static func mayReplace(_ path: String) throws -> Bool {
        // Not opened unless it is a file: a pipe would wait for who writes to it.
        let attributes = try? FileManager.default.attributesOfItem(atPath: path)  // May not exist.
        if let kind = attributes?[.type] as? FileAttributeType,
            kind != .typeRegular, kind != .typeSymbolicLink
        {
            return false
        }
        let bytes: [UInt8]
        do throws(Errno) {
            bytes = try SmallFile.read(path, limit: 16 << 20)
        } catch {
            if error == .noSuchFileOrDirectory { return true }
            if error == .fileTooLarge { return false }
            throw error
        }
        return bytes.isEmpty || bytes.starts(with: "# HELP ".utf8)
            || bytes.starts(with: "# TYPE ".utf8)
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
