// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Sessions
import Testing

@testable import VhostUser

@Suite("The configuration space")
struct ConfigurationTests {
    private func payload(_ guest: Guest, _ offset: UInt32, _ count: UInt32) throws -> [UInt8] {
        try guest.frontEnd.ask(.getConfiguration(offset: offset, count: count, flags: 1)).payload
    }

    @Test("is read in pieces of every size, and is zero past its end")
    func reading() throws {
        let guest = try Guest(try BackEnd())
        let whole: [UInt8] = Array(0..<8) + [UInt8](repeating: 0, count: 248)
        for count in [0, 1, 2, 4, 7, 8, 9, 60, 256] {
            for offset in 0...(256 - count) {
                let expected =
                    [UInt8(offset & 0xff), UInt8(offset >> 8), 0, 0]
                    + [UInt8(count & 0xff), UInt8(count >> 8), 0, 0] + [1, 0, 0, 0]
                    + whole[offset..<offset + count]
                #expect(try payload(guest, UInt32(offset), UInt32(count)) == expected)
            }
        }
    }

    @Test(
        "is not read past 256 bytes: the reply has no payload",
        arguments: [(0, 257), (255, 2), (256, 1), (0xffff_ffff, 1), (8, 0xffff_ffff)])
    func readingTooFar(_ offset: UInt32, _ count: UInt32) throws {
        let guest = try Guest(try BackEnd())
        #expect(try payload(guest, offset, count) == [])
        #expect(try payload(guest, 0, 1).count == 13)
    }

    @Test("is not written to where the device says so", arguments: [0, 1, 2] as [UInt32])
    func notWritable(_ flags: UInt32) throws {
        let guest = try Guest(try BackEnd())
        let message = FrontEndMessage.setConfiguration(offset: 0, [9], flags: flags)
        #expect(try guest.frontEnd.acknowledgement(of: message) != 0)
        try guest.frontEnd.send(message)
        #expect(try payload(guest, 0, 1).last == 0)
    }

    @Test("is written to where the device allows it")
    func writable() throws {
        let guest = try Guest(try BackEnd())
        guest.backEnd.device.isWritable = true
        try guest.frontEnd.require(.setConfiguration(offset: 6, [9, 10]))
        #expect(try payload(guest, 5, 3).suffix(3) == [5, 9, 10])
        let beyond = FrontEndMessage.setConfiguration(offset: 0xffff_ffff, [1, 2])
        #expect(try guest.frontEnd.acknowledgement(of: beyond) != 0)
    }
}

@Suite("The back-end channel")
struct BackEndChannelTests {
    /// VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, version 1, no acknowledgement, no payload.
    private let change: [UInt8] = [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]

    @Test("says that the configuration has changed while a ring runs")
    func changeWhileRunning() throws {
        let qemu = try QEMU(.ten, .vsock)
        let guest = try Guest(try BackEnd(), qemu)
        try guest.start()
        guest.backEnd.server.configurationChanged()
        #expect(try qemu.channel.take() == change)
    }

    @Test("says nothing while the device is stopped, and makes up for it at the next start")
    func changeWhileStopped() throws {
        let qemu = try QEMU(.ten, .vsock)
        let guest = try Guest(try BackEnd(), qemu)
        guest.backEnd.server.configurationChanged()
        #expect(try qemu.channel.take() == [])
        try guest.start()
        #expect(try qemu.channel.take() == change)
        try guest.stop()
        for _ in 0..<3 { guest.backEnd.server.configurationChanged() }
        #expect(try qemu.channel.take() == [])
        try guest.start()
        #expect(try qemu.channel.take() == change)
    }

    @Test("may be a pipe")
    func pipe() throws {
        let linux = try UserModeLinux()
        let guest = try Guest(try BackEnd(), linux)
        try guest.start()
        try guest.backEnd.turn()
        // user-mode Linux starts its rings with a kick.
        try guest.offer([1])
        guest.backEnd.server.configurationChanged()
        #expect(linux.channel.take() == change)
    }

    @Test("holds nothing up when nobody reads it")
    func neverRead() throws {
        let qemu = try QEMU(.ten, .vsock)
        let guest = try Guest(try BackEnd(), qemu)
        try guest.start()
        for _ in 0..<20_000 { guest.backEnd.server.configurationChanged() }
        #expect(try guest.echo([1]) == [[1]])
        #expect(try guest.frontEnd.ask(.getConfiguration(offset: 0, count: 8)).payload.count == 20)
    }

    @Test("is replaced by another one, and may be dead")
    func replaced() throws {
        let qemu = try QEMU(.ten, .vsock)
        let guest = try Guest(try BackEnd(), qemu)
        try guest.start()
        do {
            let other = try ChannelPair()
            try other.give(to: guest.frontEnd, needReply: true)
            guest.backEnd.server.configurationChanged()
            #expect(try other.take() == change)
        }
        for _ in 0..<3 { guest.backEnd.server.configurationChanged() }
        #expect(try guest.echo([1]) == [[1]])
        let third = try ChannelPair()
        try third.give(to: guest.frontEnd, needReply: true)
        guest.backEnd.server.configurationChanged()
        #expect(try third.take() == change)
    }

    @Test("is not used for a front-end that does not read the configuration")
    func notNegotiated() throws {
        let options = VhostUserOptions(
            name: "echo", withheld: try #require(WithheldFeatures(name: "config")))
        let qemu = try QEMU(.ten, .scsi)
        let guest = try Guest(try BackEnd(options: options), qemu)
        try guest.start()
        guest.backEnd.server.configurationChanged()
        #expect(try qemu.channel.take() == [])
    }
}
