// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("A device without receive buffers")
struct StarvationTests {
    let guest: FakeGuest
    let service: HostService

    init() throws {
        guest = try FakeGuest()
        service = try guest.service(at: 5000)
    }

    @Test("goes on taking packets, and rests while there is nothing to do")
    func hostboundGoesOn() throws {
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        guest.postsBuffers = false
        exhaust(host)
        stream.write(testBytes(100_000))
        guest.settle()
        guard case .bytes(let bytes) = host.read() else {
            Issue.record("bytes arrive")
            return
        }
        expectSame(bytes, testBytes(100_000))
        // Nothing is ready and no timer set: the loop would wait.
        let stalls = guest.device.statistics.receiveBufferStalls
        for _ in 0..<100 { guest.turn() }
        #expect(guest.device.statistics.receiveBufferStalls == stalls)
    }

    @Test("is woken by new ones, and everything comes")
    func resumes() throws {
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        guest.postsBuffers = false
        let sent = exhaust(host)
        let other = try guest.service(at: 5001)
        GuestStream(guest, peerPort: 5001, guestPort: 7, allocation: 65_536).request()
        guest.settle()
        let waiting = try #require(guest.streams.last)
        #expect(waiting.state == .requested, "the answer waits for a buffer")
        let end = try #require(try other.accept())
        end.write("hello")
        guest.postsBuffers = true
        for _ in 0..<20 { guest.postBuffer([3776]) }
        guest.settle()
        #expect(stream.bytesRead.count == sent)
        #expect(waiting.state == .established)
        #expect(waiting.bytesRead == Array("hello".utf8))
    }

    @Test("serves a guest that posts one buffer at a time")
    func oneAtATime() throws {
        let guest = try FakeGuest(.init(receiveBufferCount: 0))
        let service = try guest.service(at: 5000)
        guest.postBuffer([3776])
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        host.write(testBytes(100_000))
        guest.settle()
        expectSame(stream.bytesRead, testBytes(100_000))
    }

    @Test("keeps a thousand readable sockets waiting without a spin, and serves them all in turn")
    func crowd() throws {
        var ends: [(stream: GuestStream, host: HostEnd)] = []
        for port in UInt32(1)...1000 {
            ends.append(try guest.connect(to: service, port: 5000, from: port))
        }
        guest.postsBuffers = false
        exhaust(ends[0].host)
        for end in ends.dropFirst() { end.host.write("hello") }
        guest.settle()
        #expect(!guest.turn())
        guest.postsBuffers = true
        for _ in 0..<10 { guest.postBuffer([3776]) }
        guest.settle()
        #expect(ends.dropFirst().allSatisfy { $0.stream.bytesRead == Array("hello".utf8) })
    }

    /// Uses up every receive buffer; how many bytes that took.
    @discardableResult
    private func exhaust(_ host: HostEnd) -> Int {
        var sent = 0
        while guest.receiveRing.inFlightCount > 0 {
            let count = host.write(testBytes(5000))
            if count > 0 { sent += count }
            guest.settle()
        }
        return sent
    }
}
