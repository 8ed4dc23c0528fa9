// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import Synchronization

/// Where every message of the process goes: the journal when there is one, else standard error.
///
/// Any thread may use it.
final class LogDestination: Sendable {
    private let journal: JournalSocket?
    private let machine: String?
    private let limiter = LogLimiter()
    private let now: @Sendable () -> Instant
    /// Records that the journal had no room for.
    private let lostCount = Atomic<Int>(0)

    /// - Parameters:
    ///   - journal: nil for standard error.
    ///   - machine: the virtual machine's name, if it has one.
    ///   - now: measures how often a place logs.
    init(
        journal: JournalSocket?, machine: String?,
        now: @escaping @Sendable () -> Instant = { SystemClock().now }
    ) {
        self.journal = journal
        self.machine = machine
        self.now = now
    }

    /// Writes what its level lets through, unless its place has written too much.
    ///
    /// Who asks for `debug` or `trace` wants every message.
    func write(_ event: LogEvent, label: String, inner: StreamLogHandler) {
        var event = event
        if event.level >= .info {
            guard let suppressed = limiter.admit(file: event.file, line: event.line, at: now())
            else { return }
            if suppressed > 0 {
                event.metadata = (event.metadata ?? [:]).merging(
                    ["suppressed": "\(suppressed)"]) { _, new in new }
            }
        }
        guard let journal else { return inner.log(event: event) }
        let lost = lostCount.exchange(0, ordering: .relaxed)
        let record = Self.record(
            of: event, label: label, base: inner.metadata, machine: machine, lostCount: lost)
        if !journal.send(record) { lostCount.add(lost + 1, ordering: .relaxed) }
    }

    /// The fields of a message: those that every program has, then our own.
    static func record(
        of event: LogEvent, label: String, base: Logger.Metadata, machine: String?, lostCount: Int
    ) -> JournalRecord {
        var metadata = base.merging(event.metadata ?? [:]) { _, new in new }
        if lostCount > 0 { metadata["lost"] = "\(lostCount)" }
        let pairs = metadata.sorted { $0.key < $1.key }.map { ($0.key, "\($0.value)") }
        let shown = pairs.map { " \($0.0)=\($0.1)" }.joined()
        var record = JournalRecord()
        record.add("MESSAGE", "\(label): \(event.message)\(shown)")
        record.add("PRIORITY", "\(event.level.priority)")
        record.add("SYSLOG_IDENTIFIER", "vhostd")
        record.add("CODE_FILE", event.file)
        record.add("CODE_LINE", "\(event.line)")
        record.add("CODE_FUNC", event.function)
        if let machine { record.add("VHOSTD_VM", machine) }
        record.add("VHOSTD_SUBSYSTEM", label)
        for (name, value) in pairs { record.add("VHOSTD_" + name, value) }
        return record
    }
}

extension Logger.Level {
    /// As syslog(3) numbers it.
    fileprivate var priority: Int {
        switch self {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}

/// Writes what the process's level lets through, whenever that changes.
struct ServiceLogHandler: LogHandler {
    private var inner: StreamLogHandler
    private let label: String
    private let destination: LogDestination

    init(label: String, destination: LogDestination) {
        inner = .standardError(label: label)
        self.label = label
        self.destination = destination
    }

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
        destination.write(event, label: label, inner: inner)
    }
}
