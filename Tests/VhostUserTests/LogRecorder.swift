// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization

/// Keeps log lines.
final class LogRecorder: Sendable {
    struct Line: Sendable {
        let level: Logger.Level
        let text: String
        let metadata: Logger.Metadata

        /// One value of the line.
        func value(_ key: String) -> String? { metadata[key].map { "\($0)" } }
    }

    private let recorded = Mutex<[Line]>([])

    var lines: [Line] { recorded.withLock { $0 } }

    /// Lines that say this, in their text or as an error.
    func lines(saying text: String) -> [Line] {
        lines.filter { $0.text.contains(text) || $0.value("error")?.contains(text) ?? false }
    }

    func append(_ line: Line) { recorded.withLock { $0.append(line) } }

    /// A logger whose lines come here.
    var logger: Logger {
        var logger = Logger(label: "vhost-user", factory: { _ in RecordingHandler(recorder: self) })
        logger.logLevel = .debug
        return logger
    }
}

private struct RecordingHandler: LogHandler {
    let recorder: LogRecorder
    var logLevel = Logger.Level.debug
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let metadata = self.metadata.merging(event.metadata ?? [:]) { _, new in new }
        recorder.append(
            LogRecorder.Line(
                level: event.level, text: event.message.description, metadata: metadata))
    }
}
