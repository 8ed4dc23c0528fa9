// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging

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
    /// To be called once, before the first logger is made.
    static func bootstrap(level: LogLevel) {
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = level.loggerLevel
            return handler
        }
    }
}
