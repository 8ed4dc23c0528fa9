// SPDX-License-Identifier: Apache-2.0

import Foundation
import Guests
import LinuxIO
import Logging
import Testing

@testable import Service

@Suite("A log that leads to the journal")
struct JournalTests {
    /// The journal's side, and a destination that writes to it.
    private static func makeJournal() throws -> (NotificationSocket, LogDestination, String) {
        let folder = try Workspace.makeRunFolder()
        let socket = try NotificationSocket(path: folder + "/journal")
        let journal = JournalSocket(
            variable: { $0 == "JOURNAL_STREAM" ? "8:15" : nil }, standardError: "8:15",
            path: socket.path)
        return (socket, LogDestination(journal: journal, machine: "vm1"), folder)
    }

    private static func event(
        _ level: Logger.Level, _ message: Logger.Message, _ metadata: Logger.Metadata? = nil,
        line: UInt = 7
    ) -> LogEvent {
        LogEvent(
            level: level, message: message, metadata: metadata, source: "SCSI",
            file: "SCSI/Disk.swift", function: "read()", line: line)
    }

    @Test(
        "has its fields",
        arguments: [
            "MESSAGE=scsi: unit added place=target 0, LUN 1", "PRIORITY=6",
            "SYSLOG_IDENTIFIER=vhostd", "CODE_FILE=SCSI/Disk.swift", "CODE_LINE=7",
            "CODE_FUNC=read()", "VHOSTD_VM=vm1", "VHOSTD_SUBSYSTEM=scsi",
            "VHOSTD_PLACE=target 0, LUN 1",
        ])
    func fields(line: String) throws {
        let (socket, destination, folder) = try Self.makeJournal()
        destination.write(
            Self.event(.info, "unit added", ["place": "target 0, LUN 1"]), label: "scsi",
            inner: .standardError(label: "scsi"))
        try socket.wait(for: line, within: .seconds(120))
        try FileManager.default.removeItem(atPath: folder)
    }

    @Test(
        "has the priorities of syslog",
        arguments: [
            (Logger.Level.trace, 7), (.debug, 7), (.info, 6), (.notice, 5), (.warning, 4),
            (.error, 3), (.critical, 2),
        ])
    func priorities(level: Logger.Level, number: Int) throws {
        let record = LogDestination.record(
            of: Self.event(level, "x"), label: "scsi", base: [:], machine: nil, lostCount: 0)
        #expect(record.fields.contains { $0.name == "PRIORITY" && $0.value == "\(number)" })
        #expect(!record.fields.contains { $0.name == "VHOSTD_VM" })
    }

    @Test("writes a text of several lines with its length, and no field that is none")
    func bytes() {
        var record = JournalRecord()
        record.add("MESSAGE", "a\nb")
        record.add("odd-näme", "c")
        record.add("_9", "d")
        #expect(
            record.bytes
                == Array("MESSAGE\n".utf8) + [3, 0, 0, 0, 0, 0, 0, 0]
                + Array("a\nb\nODD_N__ME=c\n".utf8))
    }

    @Test("does not take another stream for the journal")
    func elsewhere() {
        #expect(JournalSocket(variable: { _ in nil }, standardError: "8:15") == nil)
        #expect(JournalSocket(variable: { _ in "8:16" }, standardError: "8:15") == nil)
        #expect(JournalSocket(variable: { _ in "8:15" }, standardError: nil) == nil)
    }

    @Test("goes on when the journal is away, and then tells how much is lost")
    func journalAway() throws {
        let folder = try Workspace.makeRunFolder()
        let path = folder + "/journal"
        let journal = JournalSocket(
            variable: { _ in "8:15" }, standardError: "8:15", path: path)
        let destination = LogDestination(journal: journal, machine: nil)
        let inner = StreamLogHandler.standardError(label: "scsi")
        for _ in 0..<3 { destination.write(Self.event(.info, "x"), label: "scsi", inner: inner) }
        let socket = try NotificationSocket(path: path)
        destination.write(Self.event(.info, "y"), label: "scsi", inner: inner)
        try socket.wait(for: "MESSAGE=scsi: y lost=3", within: .seconds(120))
        try FileManager.default.removeItem(atPath: folder)
    }

    @Test("keeps the beginning of what is too large for the journal")
    func tooLarge() throws {
        let (socket, destination, folder) = try Self.makeJournal()
        let text = String(repeating: "x", count: 4 << 20)
        destination.write(
            Self.event(.info, "\(text)"), label: "scsi", inner: .standardError(label: "scsi"))
        try socket.wait(
            for: "MESSAGE=scsi: " + String(repeating: "x", count: 1024 - 6), within: .seconds(120))
        try FileManager.default.removeItem(atPath: folder)
    }
}

@Suite("A place that logs too much")
struct LogLimiterTests {
    private static func at(_ seconds: UInt64) -> Instant {
        Instant(nanoseconds: (100 + seconds) * 1_000_000_000)
    }

    @Test("is held to twenty messages at once and one in three seconds")
    func limit() {
        let limiter = LogLimiter()
        var admitted = 0
        for _ in 0..<1000 where limiter.admit(file: "a", line: 1, at: Self.at(0)) != nil {
            admitted += 1
        }
        #expect(admitted == 20)
        #expect(limiter.admit(file: "a", line: 1, at: Self.at(2)) == nil)
        // 980 at once, and one two seconds later.
        #expect(limiter.admit(file: "a", line: 1, at: Self.at(3)) == 981)
        #expect(limiter.admit(file: "a", line: 1, at: Self.at(3)) == nil)
        #expect(limiter.admit(file: "a", line: 1, at: Self.at(6)) == 1)
    }

    @Test("keeps no other place from logging, and recovers")
    func others() {
        let limiter = LogLimiter()
        for _ in 0..<30 { _ = limiter.admit(file: "a", line: 1, at: Self.at(0)) }
        #expect(limiter.admit(file: "a", line: 2, at: Self.at(0)) == 0)
        #expect(limiter.admit(file: "b", line: 1, at: Self.at(0)) == 0)
        var admitted = 0
        for _ in 0..<30 where limiter.admit(file: "a", line: 1, at: Self.at(3600)) != nil {
            admitted += 1
        }
        #expect(admitted == 20)
    }
}
