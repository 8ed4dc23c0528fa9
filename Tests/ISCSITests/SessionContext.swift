// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import Logging
import Synchronization
import Targets

@testable import ISCSIBackstore

/// A clock that runs with the kernel's and can be put forward.
final class ShiftedClock: MonotonicClock {
    private let system = SystemClock()
    private var shift: UInt64 = 0

    var now: Instant { Instant(nanoseconds: system.now.nanoseconds + shift) }

    func advance(by duration: Duration) { shift += duration.wholeNanoseconds }
}

/// Keeps the lines of a log.
final class LogLines: Sendable {
    private let lines = Mutex<[String]>([])

    var all: [String] { lines.withLock { $0 } }

    func append(_ line: String) { lines.withLock { $0.append(line) } }

    func removeAll() { lines.withLock { $0.removeAll() } }

    func count(containing text: String) -> Int { all.filter { $0.contains(text) }.count }
}

struct LineHandler: LogHandler {
    let lines: LogLines
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let merged = metadata.merging(event.metadata ?? [:]) { $1 }
        let pairs = merged.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        lines.append("\(event.level) \(event.message) \(pairs.joined(separator: " "))")
    }
}

/// A session, the loop that it runs on, and what it has told.
final class SessionContext: ISCSISessionOwner {
    let clock = ShiftedClock()
    let lines = LogLines()
    let loop: EventLoop
    let pool: WorkerPool
    var configuration: ISCSISessionConfiguration
    private(set) var session: ISCSISession

    private(set) var outcomes: [UInt64: ISCSIOutcome] = [:]
    private(set) var order: [UInt64] = []
    private(set) var sense: [UInt64: [UInt8]] = [:]
    private(set) var upCount = 0
    private(set) var downCount = 0
    private(set) var attentions: [[UInt8]] = []

    init(
        _ url: String, adjust: (inout ISCSISessionConfiguration) -> Void = { _ in }
    ) throws {
        loop = try EventLoop(clock: clock)
        pool = try WorkerPool(name: "test", threadCount: 1)
        var configuration = ISCSISessionConfiguration(
            url: try ISCSIURL(url), initiatorName: "iqn.2026-01.com.example:initiator",
            sessionIdentifier: 0x12_3456_789A)
        adjust(&configuration)
        try configuration.check()
        self.configuration = configuration
        let lines = lines
        let log = Logger(label: "test") { _ in LineHandler(lines: lines) }
        session = ISCSISession(configuration, loop: loop, pool: pool, log: log)
        session.owner = self
    }

    deinit {
        session.owner = nil
        session.close()
        pool.stopAndJoin()
    }

    /// Turns the loop until the condition holds.
    ///
    /// - Returns: whether it does, within the kernel's time.
    @discardableResult
    func turn(
        atMost limit: Duration = .seconds(60), until condition: () -> Bool
    ) throws -> Bool {
        let system = SystemClock()
        let end = system.now.advanced(byNanoseconds: limit.wholeNanoseconds)
        while !condition() {
            if system.now > end { return false }
            try loop.turn(waitingAtMost: .milliseconds(10))
        }
        return true
    }

    /// Puts the clock forward by the interval of the keep-alive, and turns the loop until the target
    /// has answered what the session asks then.
    func keepAlive() throws {
        clock.advance(by: configuration.timeouts.keepAlive)
        // The timer fires in the first turn, what it asks for is sent at its end.
        try loop.turn(waitingAtMost: .zero)
        try turn {
            session.connection?.isPingOutstanding != true && !session.isPollOutstanding
        }
    }

    /// Starts the session and waits until it is up.
    @discardableResult
    func bringUp() throws -> Bool {
        session.start()
        return try turn { session.phase == .up }
    }

    /// Starts the session and returns why the first attempt failed.
    func firstFailure() throws -> ISCSIError? {
        session.start()
        try turn { session.lastError != nil || session.phase == .up }
        return session.lastError
    }

    /// Breaks the connection as a network would.
    func breakConnection() {
        if let descriptor = session.connection?.descriptor, descriptor >= 0 {
            _ = shutdown(descriptor, Int32(SHUT_RDWR))
        }
    }

    /// Forgets what has ended.
    func forget() {
        lines.removeAll()
        outcomes = [:]
        order = []
        sense = [:]
    }

    /// Submits a command and waits for its end.
    func run(
        _ cdb: (UInt64, UInt64), direction: ISCSICommand.Direction = .none, byteCount: Int = 0,
        pieces: IOVectorSlice? = nil
    ) throws -> ISCSIOutcome? {
        let token = submit(cdb, direction: direction, byteCount: byteCount, pieces: pieces)
        try turn { outcomes[token] != nil }
        return outcomes[token]
    }

    private var nextToken: UInt64 = 1

    @discardableResult
    func submit(
        _ cdb: (UInt64, UInt64), direction: ISCSICommand.Direction = .none, byteCount: Int = 0,
        pieces: IOVectorSlice? = nil
    ) -> UInt64 {
        let token = nextToken
        nextToken += 1
        session.submit(
            ISCSICommand(
                token: token, cdb: cdb, direction: direction, byteCount: byteCount,
                pieces: pieces))
        return token
    }

    // MARK: What the session tells

    func commandEnded(token: UInt64, _ outcome: ISCSIOutcome, data: RawSpan) {
        precondition(outcomes[token] == nil, "a command ends once")
        outcomes[token] = outcome
        order.append(token)
        sense[token] = SenseData.bytes(ofResponse: data)
    }

    func sessionUp(_ session: ISCSISession, isSame: Bool) { upCount += 1 }
    func sessionDown(_ session: ISCSISession) { downCount += 1 }
    func unitAttention(_ sense: [UInt8]) { attentions.append(sense) }
}
