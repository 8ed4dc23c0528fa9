// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("The event queue")
struct EventTests {
    /// A device whose driver somebody else has served before.
    private func resumed(_ format: RingFormat) throws -> FakeGuest {
        let guest = try FakeGuest(.init(format: format, hasEventQueue: true))
        _ = try guest.accept(at: 22)
        guest.streams = []
        let bases = guest.bases
        guest.stop()
        guest.device.reset()
        guest.forgetAccounts()
        try guest.start(at: bases)
        return guest
    }

    @Test(
        "tells it when the device was killed in the middle of a transfer; nothing of the rings is lost",
        arguments: RingFormat.allCases)
    func killed(_ format: RingFormat) throws {
        let guest = try FakeGuest(.init(format: format, hasEventQueue: true))
        postEventBuffers(guest, 8)
        for round in UInt32(0)..<20 {
            let service = try guest.service(at: 5000)
            let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
            let (inbound, client) = try guest.accept(at: 22)
            client.write(testBytes(100_000))
            stream.write(testBytes(200_000))
            // Some packets have been taken, and some have not.
            if round % 2 == 0 { guest.turn() }
            inbound.write(testBytes(5000))
            try guest.replaceDevice()
            guest.settle()
            #expect(guest.chainsUnderWay == 0)
            #expect(host.read() != .wouldBlock)
            #expect(try events(guest) == [[0, 0, 0, 0]])
            postEventBuffers(guest, 1)
            guest.settle()
            #expect(try events(guest) == [])
            _ = guest.takeReceived()
        }
    }

    private func postEventBuffers(_ guest: FakeGuest, _ count: Int) {
        for _ in 0..<count {
            let chain = Chain(writable: [guest.memory.segment(byteCount: 4)])
            _ = guest.eventRing.add(chain, tag: 0)
        }
        if guest.eventRing.publish() { guest.device.driverNotified(queueAt: 2) }
    }

    private func events(_ guest: FakeGuest) throws -> [[UInt8]] {
        var events: [[UInt8]] = []
        while let used = try guest.eventRing.reap() {
            events.append(guest.eventRing.writtenBytes(of: used))
        }
        return events
    }

    @Test(
        "tells a driver that went on from somebody else that its connections are gone, once",
        arguments: RingFormat.allCases)
    func transportReset(_ format: RingFormat) throws {
        let guest = try resumed(format)
        postEventBuffers(guest, 7)
        guest.settle()
        #expect(try events(guest) == [[0, 0, 0, 0]])
        postEventBuffers(guest, 1)
        guest.settle()
        #expect(try events(guest) == [])
        #expect(guest.device.statistics.transportResets == 1)
        _ = try guest.accept(at: 22)
    }

    @Test("waits for a buffer, and holds packets back until the driver has read the event")
    func gate() throws {
        let guest = try resumed(.split)
        guest.settle()
        postEventBuffers(guest, 7)
        guest.settle()
        #expect(try events(guest).count == 1)
        let client = try guest.client()
        client.write("CONNECT 22\n")
        guest.settle()
        #expect(guest.takeReceived().isEmpty)
        postEventBuffers(guest, 1)
        guest.settle()
        #expect(guest.takeReceived().map(\.operation) == [Packet.request])
    }

    @Test("holds nothing back when its queue stops before the driver has read the event")
    func stopped() throws {
        let guest = try resumed(.split)
        postEventBuffers(guest, 7)
        guest.settle()
        #expect(try events(guest).count == 1)
        let client = try guest.client()
        client.write("CONNECT 22\n")
        guest.settle()
        #expect(guest.takeReceived().isEmpty)
        guest.device.stopQueue(at: 2)
        guest.settle()
        #expect(guest.takeReceived().map(\.operation) == [Packet.request])
    }

    @Test("does not hold packets back for more than a second")
    func silentDriver() throws {
        let guest = try resumed(.split)
        postEventBuffers(guest, 7)
        guest.settle()
        let client = try guest.client()
        client.write("CONNECT 22\n")
        guest.settle()
        #expect(guest.takeReceived().isEmpty)
        guest.advance(by: .seconds(1))
        #expect(guest.takeReceived().map(\.operation) == [Packet.request])
    }

    @Test(
        "takes a buffer however it is cut, and passes over one that is too small",
        arguments: [[1, 3], [2, 2], [1, 1, 1, 1], [8], [4, 60]])
    func pieces(_ lengths: [Int]) throws {
        let guest = try resumed(.split)
        for segments in [[3], [1, 1], lengths] {
            let chain = Chain(writable: segments.map { guest.memory.segment(byteCount: $0) })
            _ = guest.eventRing.add(chain, tag: 0)
        }
        if guest.eventRing.publish() { guest.device.driverNotified(queueAt: 2) }
        guest.settle()
        // Linux looks at nothing but a length of 4 exactly.
        #expect(try events(guest) == [[], [], [0, 0, 0, 0]])
        #expect(guest.device.statistics.transportResets == 1)
    }

    @Test("is left alone by a driver that starts anew", arguments: RingFormat.allCases)
    func freshDriver(_ format: RingFormat) throws {
        let guest = try FakeGuest(.init(format: format, hasEventQueue: true))
        postEventBuffers(guest, 7)
        guest.settle()
        #expect(try events(guest) == [])
        _ = try guest.accept(at: 22)
    }
}
