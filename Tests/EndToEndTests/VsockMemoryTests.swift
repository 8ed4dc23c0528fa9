// SPDX-License-Identifier: Apache-2.0

import Driver
import Foundation
import FrontEnd
import Guests
import LinuxIO
import Testing

@Suite("Memory that is plugged and unplugged under vsock streams")
struct VsockMemoryTests {
    /// A program on the host, at the other end of a connection, and what has passed so far.
    private struct Stream {
        let port: UInt32
        let host: OwnedSocket
        /// Bytes that the host has sent, that the guest has read, that the guest has sent, and that the host has
        /// read.
        var hostSent = 0
        var guestRead = 0
        var guestSent = 0
        var hostRead = 0
    }

    /// A descriptor in a struct that is copied.
    private final class OwnedSocket {
        let descriptor: OwnedDescriptor
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    /// Byte `position` of every stream in either direction; the period is a prime.
    private static let pattern = (0..<65_521 * 2).map { position in
        UInt8(truncatingIfNeeded: (position % 65_521) &* 31 &+ (position % 65_521) >> 8)
    }

    private static func bytes(at position: Int, _ count: Int) -> ArraySlice<UInt8> {
        pattern[(position % 65_521)...].prefix(min(count, 60_000))
    }

    @Test(
        "changes no byte of what flows both ways, nor of what waits",
        arguments: RingFormat.allCases)
    func hotPlug(format: RingFormat) throws {
        let program = try Program([
            "run", "--vsock-socket", "@/s", "--guest-cid", "42", "--vsock-path", "@/v",
        ])
        try program.waitUntilListening("s")
        let path = program.folder + "/v_5000"
        let listener = try UnixListener(try #require(UnixAddress(path: path)))
        let guest = try retrying {
            try VsockGuest(socketPath: program.folder + "/s", format: format, regionCount: 3)
        }
        try guest.removeRegion(2)
        var stream = try connect(guest, listener, port: 1025, allocation: 65_536)
        // Its bytes wait in the host's socket until the guest grants credit for them.
        var waiting = try connect(guest, listener, port: 1026, allocation: 0)
        try turn(guest) {
            try moveFromHost(&waiting)
            return waiting.hostSent >= 60_000
        }

        for round in 0..<20 {
            let (old, new) = round % 2 == 0 ? (1, 2) : (2, 1)
            try guest.addRegion(new)
            guest.region = new
            let before = (stream.guestRead, stream.hostRead)
            try turn(guest) {
                try move(&stream, guest)
                return guest.chainCounts[old] == 0 && stream.guestRead >= before.0 + 100_000
                    && stream.hostRead >= before.1 + 100_000
            }
            try guest.removeRegion(old)
        }
        #expect(guest.read(at: waiting.port) == [])
        guest.grant(65_536, at: waiting.port)
        try turn(guest) {
            try move(&waiting, guest)
            return waiting.guestRead >= 200_000 && waiting.hostRead >= 200_000
        }
        #expect(guest.memory.canariesAreIntact)
        #expect(guest.chainCounts[0] == 0)
        guest.frontEnd.disconnect()
        #expect(program.terminate(within: .seconds(1)) == .exited(0))
    }

    /// Lets the guest and the host's programs go on until something is so.
    private func turn(_ guest: VsockGuest, until condition: () throws -> Bool) throws {
        let clock = SuspendingClock()
        let deadline = clock.now + .seconds(300)
        while clock.now < deadline {
            try guest.turn()
            if try condition() { return }
            usleep(200)
        }
        throw GuestError("it has not come to that in five minutes")
    }

    private func connect(
        _ guest: VsockGuest, _ listener: UnixListener, port: UInt32, allocation: UInt32
    ) throws -> Stream {
        guest.request(5000, from: port, allocation: allocation)
        try turn(guest) { guest.isEstablished(port) }
        switch try listener.accept() {
        case .none: throw GuestError("nobody has connected")
        case .some(let socket): return Stream(port: port, host: OwnedSocket(socket))
        }
    }

    /// Moves what there is room for, both ways, and looks at every byte that comes.
    private func move(_ stream: inout Stream, _ guest: VsockGuest) throws {
        try moveFromHost(&stream)
        let read = guest.read(at: stream.port)
        check(read, at: &stream.guestRead)
        stream.guestSent += guest.write(Self.bytes(at: stream.guestSent, 16_384), at: stream.port)
        let (result, bytes, _) = try UnixSocket.receive(
            from: stream.host.descriptor, upTo: 65_536)
        if result == .endOfFile { throw GuestError("the connection has ended") }
        check(Array(bytes), at: &stream.hostRead)
    }

    private func moveFromHost(_ stream: inout Stream) throws {
        let bytes = Array(Self.bytes(at: stream.hostSent, 30_000))
        if case .bytes(let count) = try UnixSocket.send(bytes, to: stream.host.descriptor) {
            stream.hostSent += count
        }
    }

    private func check(_ bytes: [UInt8], at position: inout Int) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let expected = Self.bytes(at: position, rest.count)
            #expect(rest.prefix(expected.count).elementsEqual(expected), "at byte \(position)")
            rest = rest.dropFirst(expected.count)
            position += expected.count
        }
    }
}
