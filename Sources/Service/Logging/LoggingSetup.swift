// SPDX-License-Identifier: Apache-2.0

import LinuxIO
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

/// Sends every logger of the process to the journal, or to standard error.
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
    ///
    /// - Parameters:
    ///   - level: the least severe message that is logged.
    ///   - machine: the virtual machine's name, for the journal.
    static func bootstrap(level: LogLevel, machine: String?) {
        self.level = level
        let journal = JournalSocket(
            variable: ProcessEnvironment.variable, standardError: StandardStream.error.identity)
        let destination = LogDestination(journal: journal, machine: machine)
        LoggingSystem.bootstrap { ServiceLogHandler(label: $0, destination: destination) }
    }
}
