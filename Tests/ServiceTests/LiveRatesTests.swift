// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import Testing

@testable import Service

@Suite("What is shown of a service while it works")
struct LiveRatesTests {
    private static func unit(reads: UInt64, writes: UInt64, source: String = "/a") -> UnitStatus {
        var unit = UnitStatus(
            target: 1, lun: 2, source: source, state: "online", isReadOnly: false, blockSize: 512,
            blockCount: 8)
        var figures = StoreFigures()
        figures.readCount = reads
        figures.readByteCount = reads * 4096
        figures.writeCount = writes
        figures.writtenByteCount = writes * 512
        for _ in 0..<reads { figures.latency.add(microseconds: 30) }
        unit.figures = figures
        unit.waitingCount = 5
        return unit
    }

    private static func connection(_ port: UInt32, from: UInt64, to: UInt64) -> ConnectionStatus {
        var connection = ConnectionStatus(
            guestPort: port, peerCID: 2, peerPort: 1234, type: "stream")
        connection.bytesFromGuest = from
        connection.packetsFromGuest = from / 100
        connection.bytesToGuest = to
        connection.creditStalls = 3
        return connection
    }

    private static func reply(
        _ units: [UnitStatus], _ connections: [ConnectionStatus]
    ) -> ControlReply {
        var status = ServiceStatus(version: "1", uptimeSeconds: 9, logLevel: "info")
        status.scsi = SCSIStatus(
            socket: "s", isFrontEndConnected: true, orphanedQueueCount: 0, units: units)
        return ControlReply(status: status, connections: connections)
    }

    @Test("is the difference of two looks, for a second")
    func rates() {
        let rates = LiveRates(
            from: Self.reply(
                [Self.unit(reads: 10, writes: 0)], [Self.connection(7, from: 0, to: 50)]),
            to: Self.reply(
                [Self.unit(reads: 20, writes: 100)], [Self.connection(7, from: 1000, to: 50)]),
            nanoseconds: 2_000_000_000)
        #expect(rates.units.map(\.reads) == [5])
        #expect(rates.units.map(\.readBytes) == [20480])
        #expect(rates.units.map(\.writes) == [50])
        #expect(rates.units.map(\.writtenBytes) == [25600])
        #expect(rates.units.map(\.waitingCount) == [5])
        #expect(rates.units.map(\.meanMicroseconds) == [30])
        #expect(rates.connections.map(\.bytesFromGuest) == [500])
        #expect(rates.connections.map(\.packetsFromGuest) == [5])
        #expect(rates.connections.map(\.bytesToGuest) == [0])
        #expect(rates.connections.map(\.creditStalls) == [0])
    }

    @Test("counts what is new, or was replaced, from zero")
    func newcomers() {
        let rates = LiveRates(
            from: Self.reply(
                [Self.unit(reads: 10, writes: 10)], [Self.connection(7, from: 900, to: 0)]),
            to: Self.reply(
                [Self.unit(reads: 20, writes: 20, source: "/b")],
                [Self.connection(7, from: 100, to: 0), Self.connection(8, from: 0, to: 300)]),
            nanoseconds: 1_000_000_000)
        #expect(rates.units.map(\.reads) == [20])
        // The busiest first.
        #expect(rates.connections.map(\.guestPort) == [8, 7])
        #expect(rates.connections.map(\.bytesFromGuest) == [0, 100])
    }

    @Test("is a table for people, as long as the terminal")
    func table() {
        let connections = (0..<50).map { Self.connection($0, from: 2048, to: 0) }
        let rates = LiveRates(
            from: Self.reply([], []), to: Self.reply([Self.unit(reads: 1, writes: 0)], connections),
            nanoseconds: 1_000_000_000)
        let lines = rates.text(lineLimit: 24).split(
            separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count == 24)
        #expect(lines[0] == "up 9 s, 50 connections")
        #expect(lines[2] == "TARGET  LUN  READ/S         WRITE/S       HELD  TIME   SOURCE")
        #expect(lines[3] == "1       2    1       4 KiB  0        0 B  5     30 us  /a")
        #expect(lines[5] == "GUEST  PEER    TYPE    FROM/S         TO/S       STALLS  WAITS")
        #expect(lines[6] == "0      2:1234  stream  20      2 KiB  0     0 B  3       0 B")
        #expect(!rates.json.contains("\n"))
    }
}
