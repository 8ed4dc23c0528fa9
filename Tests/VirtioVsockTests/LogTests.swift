// SPDX-License-Identifier: Apache-2.0

import Driver
import Logging
import Synchronization
import Testing

@testable import VirtioVsock

/// Keeps log lines.
private final class Lines: Sendable {
    private let texts = Mutex<[String]>([])

    var all: [String] { texts.withLock { $0 } }

    func append(_ text: String) { texts.withLock { $0.append(text) } }

    /// A logger of the default level whose lines come here.
    var logger: Logger {
        Logger(label: "test", factory: { _ in Handler(lines: self) })
    }
}

private struct Handler: LogHandler {
    let lines: Lines
    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { lines.append(event.message.description) }
}

@Suite("The log of a vsock device")
struct LogTests {
    @Test("is not filled by a guest, nor by clients, that keep to no rule")
    func flood() throws {
        let lines = Lines()
        let guest = try FakeGuest(.init(checksPackets: false, log: lines.logger))
        let service = try guest.service(at: 5000)
        for round in UInt32(0)..<500 {
            var packet = Packet()
            packet.sourceCID = round % 3 == 0 ? 9 : 3
            packet.destinationCID = round % 5 == 0 ? 77 : 2
            packet.sourcePort = 1024 + round
            packet.destinationPort = round % 2 == 0 ? 5000 : 5001
            packet.operation = UInt16(round % 9)
            packet.type = UInt16(1 + round % 3)
            guest.send(packet)
            packet.operation = Packet.request
            packet.type = 1
            guest.send(packet)
            guest.send(packet)
            guest.offer(Chain(readable: [guest.memory.segment([1, 2, 3])]))
            let client = try guest.client()
            client.write(round % 2 == 0 ? "nonsense\n" : "CONNECT 5\n")
            guest.settle()
            _ = try service.accept()
        }
        #expect(lines.all == [])
    }
}
