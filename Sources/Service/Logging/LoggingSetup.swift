// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization

extension LogLevel {
    /// The same level, as swift-log has it.
    var loggerLevel: Logger.Level {
        switch self {
        case .trace: .trace
        case .debug: .debug
        case .info: .info
        case .notice: .notice
        case .warning: .warning
        case .error: .error
        case .critical: .critical
        }
    }
}

/// Sends every logger of the process to standard error.
enum LoggingSetup {
    /// The place of the level among all.
    private static let current = Atomic<Int>(2)

    /// The least severe message that is logged, by every logger from now on.
    ///
    /// Any thread may read and set it.
    static var level: LogLevel {
        get { LogLevel.allCases[current.load(ordering: .relaxed)] }
        set {
            let index = LogLevel.allCases.firstIndex(of: newValue) ?? 0
            current.store(index, ordering: .relaxed)
        }
    }

    /// To be called once, before the first logger is made.
    static func bootstrap(level: LogLevel) {
        self.level = level
        LoggingSystem.bootstrap { LeveledHandler(inner: .standardError(label: $0)) }
    }
}

/// Writes what the process's level lets through, whenever that changes.
private struct LeveledHandler: LogHandler {
    var inner: StreamLogHandler

    var logLevel: Logger.Level {
        get { LoggingSetup.level.loggerLevel }
        set {}
    }

    var metadata: Logger.Metadata {
        get { inner.metadata }
        set { inner.metadata = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { inner[metadataKey: key] }
        set { inner[metadataKey: key] = newValue }
    }

    func log(event: LogEvent) {
        inner.log(event: event)
    }
}
