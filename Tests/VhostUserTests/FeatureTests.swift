// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Sessions
import Testing
import Virtio

@testable import VhostUser

@Suite("The features of a session")
struct FeatureTests {
    @Test("are the device's, LOG_ALL and bit 30")
    func offered() throws {
        let backEnd = try BackEnd(features: [.version1, .bit(1)])
        let frontEnd = try backEnd.connect()
        #expect(try frontEnd.ask(.getFeatures).integer == 1 << 32 | 1 << 30 | 1 << 26 | 1 << 1)
    }

    @Test(
        "of the protocol are MQ, LOG_SHMFD, REPLY_ACK, BACKEND_REQ, CONFIG, RESET_DEVICE, MEM_SLOTS"
    )
    func offeredProtocol() throws {
        let frontEnd = try BackEnd().connect()
        let expected: UInt64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 13 | 1 << 15
        #expect(try frontEnd.ask(.getProtocolFeatures).integer == expected)
    }

    @Test(
        "can be withheld by name",
        arguments: [
            ("packed", 1 << 34, 0), ("event-idx", 1 << 29, 0), ("indirect", 1 << 28, 0),
            ("in-order", 1 << 35, 0), ("version-1", 1 << 32, 0), ("protocol-features", 1 << 30, 0),
            ("mq", 0, 1 << 0), ("reply-ack", 0, 1 << 3), ("backend-req", 0, 1 << 5),
            ("config", 0, 1 << 9), ("reset-device", 0, 1 << 13), ("mem-slots", 0, 1 << 15),
            ("log-all", 1 << 26, 0), ("log-shmfd", 0, 1 << 1),
        ] as [(String, UInt64, UInt64)])
    func withheld(_ name: String, _ features: UInt64, _ protocolFeatures: UInt64) throws {
        let all = try BackEnd().connect()
        let withheld = try #require(WithheldFeatures(name: name))
        let options = VhostUserOptions(name: "echo", withheld: withheld)
        let less = try BackEnd(options: options).connect()
        #expect(
            try all.ask(.getFeatures).integer & ~(try less.ask(.getFeatures).integer) == features)
        #expect(
            try all.ask(.getProtocolFeatures).integer
                & ~(try less.ask(.getProtocolFeatures).integer) == protocolFeatures)
    }

    @Test("that are withheld have names, and only they")
    func names() {
        #expect(WithheldFeatures.names.count == 14)
        #expect(WithheldFeatures(name: "seqpacket") == nil)
        var both = WithheldFeatures(device: .bit(1))
        both.formUnion(WithheldFeatures(transport: .multiqueue))
        #expect(both == WithheldFeatures(device: .bit(1), transport: .multiqueue))
    }

    @Test("may hold bits of the device that were not offered: QEMU does not ask", arguments: 0...23)
    func unofferedDeviceBits(_ bit: Int) throws {
        let guest = try Guest(try BackEnd(features: [.version1]))
        try guest.frontEnd.require(.setFeatures(1 << 32 | 1 << 30 | 1 << UInt64(bit)))
        #expect(guest.backEnd.server.isServing)
    }

    @Test("may hold bits that change nothing, offered or not", arguments: [24, 27, 30, 32, 36])
    func harmlessBits(_ bit: Int) throws {
        let guest = try Guest(try BackEnd(features: []))
        try guest.frontEnd.require(.setFeatures(1 << UInt64(bit)))
    }

    @Test(
        "end the session if they hold what cannot be ignored",
        arguments: [25, 28, 29, 31, 33, 34, 35, 37, 38, 39, 40, 41, 63])
    func unofferedBits(_ bit: Int) throws {
        let guest = try Guest(try BackEnd(features: [.version1]))
        let features: UInt64 = 1 << 32 | 1 << 30 | 1 << UInt64(bit)
        #expect(try guest.frontEnd.acknowledgement(of: .setFeatures(features)) != 0)
        #expect(try guest.frontEnd.isClosed())
        #expect(guest.backEnd.log.lines(saying: "were not offered").count == 1)
    }

    @Test("end the session if they hold a bit that the device cannot do without")
    func indispensable() throws {
        let options = VhostUserOptions(name: "echo", indispensable: .bit(3))
        let guest = try Guest(try BackEnd(options: options))
        try guest.frontEnd.require(.setFeatures(1 << 32 | 1 << 30 | 1 << 2))
        #expect(
            try guest.frontEnd.acknowledgement(of: .setFeatures(1 << 32 | 1 << 30 | 1 << 3)) != 0)
        #expect(try guest.frontEnd.isClosed())
    }

    @Test(
        "of the protocol end the session if they were not offered", arguments: [2, 12, 14, 16, 20])
    func unofferedProtocolBits(_ bit: Int) throws {
        let frontEnd = try BackEnd().connect()
        try frontEnd.send(.setProtocolFeatures(1 << UInt64(bit)))
        #expect(try frontEnd.isClosed())
    }

    @Test("reach the device once, without those of the transport, and before its first queue")
    func announced() throws {
        let guest = try Guest(
            try BackEnd(features: [.version1, .bit(1)]),
            options: RingOptions(size: 16, indirect: false, eventIndex: false))
        try guest.frontEnd.synchronize()
        _ = guest.backEnd.device.takeEvents()
        try guest.start()
        #expect(guest.backEnd.device.features == [.version1])
        #expect(guest.backEnd.device.takeEvents().prefix(2) == ["features", "start 0"])
        try guest.stop()
        try guest.start()
        #expect(!guest.backEnd.device.takeEvents().contains("features"))
    }

    @Test(
        "of the protocol gate their requests",
        arguments: [
            (FrontEndMessage.getConfiguration(offset: 0, count: 8)),
            (.getMemorySlotCount),
        ])
    func gatedRequests(_ message: FrontEndMessage) throws {
        let frontEnd = try BackEnd().connect()
        try frontEnd.send(message)
        #expect(try frontEnd.isClosed())
    }

    @Test("of the protocol gate requests whose refusal can be told")
    func gatedAcknowledgements() throws {
        let frontEnd = try BackEnd().connect()
        try frontEnd.send(.setProtocolFeatures(1 << 3))
        #expect(try frontEnd.acknowledgement(of: .resetDevice) != 0)
        #expect(try frontEnd.acknowledgement(of: .setConfiguration(offset: 0, [1])) != 0)
        // But the number of queues is told to anybody.
        #expect(try frontEnd.ask(.getQueueCount).integer == 3)
    }

    @Test("may be set by a front-end that has not asked for them")
    func notAskedFor() throws {
        let frontEnd = try BackEnd().connect()
        try frontEnd.send(.setProtocolFeatures(1 << 3 | 1 << 9))
        try frontEnd.send(.setOwner)
        try frontEnd.send(.setOwner)
        #expect(try frontEnd.acknowledgement(of: .setFeatures(1 << 32 | 1 << 30)) == 0)
    }
}
