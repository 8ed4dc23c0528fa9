// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import Testing

@testable import VirtioVsock

/// Each in a process of its own, which has its own limit.
@Suite("A process without descriptors")
struct DescriptorLimitTests {
    /// Lets this process have no more descriptors than it has now, and gives the old limit back.
    private static func exhaust() throws -> rlimit {
        var limit = rlimit()
        // SAFETY: the calls are given one local.
        _ = unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        var tight = limit
        // Numbers below the next free one are all taken.
        let next = try UnixSocket.pair().split { first, _ in first.rawValue }
        tight.rlim_cur = rlim_t(next)
        _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &tight)
        return limit
    }

    private static func restore(_ limit: rlimit) {
        var limit = limit
        // SAFETY: the call is given one local.
        _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    @Test("looks away from clients for a while, keeps its listeners, and serves them afterwards")
    func accept() async {
        await #expect(processExitsWith: .success) {
            let guest = try FakeGuest()
            let clients = try (0..<3).map { _ in try guest.client() }
            for client in clients { client.write("CONNECT 22\n") }
            let limit = try Self.exhaust()
            let entrances = { guest.device.multiplexer.entrances }
            guest.settle()
            // Nothing is looked at that would be ready for ever.
            try #require(entrances().allSatisfy { $0.registration == nil })
            for _ in 0..<10 {
                guest.advance(by: .milliseconds(100))
                try #require(entrances().allSatisfy { $0.registration == nil })
            }
            try #require(guest.takeReceived().isEmpty)
            Self.restore(limit)
            guest.advance(by: .milliseconds(100))
            try #require(entrances().allSatisfy { $0.registration != nil })
            let requests = guest.takeReceived()
            try #require(requests.map(\.operation) == [1, 1, 1])
            for request in requests {
                let stream = GuestStream(
                    guest, peerPort: request.sourcePort, guestPort: 22, allocation: 65_536)
                stream.respond(to: request)
            }
            guest.settle()
            for client in clients { try #require(client.readText().hasPrefix("OK ")) }
        }
    }

    @Test("refuses the guest's connections at once, and no longer than it has to")
    func connect() async {
        await #expect(processExitsWith: .success) {
            let guest = try FakeGuest()
            let service = try guest.service(at: 5000)
            let limit = try Self.exhaust()
            for port in UInt32(1)...20 {
                let stream = GuestStream(
                    guest, peerPort: 5000, guestPort: port, allocation: 65_536)
                stream.request()
                guest.settle()
                try #require(stream.wasReset)
            }
            try #require(guest.device.connectionCount == 0)
            Self.restore(limit)
            _ = try guest.connect(to: service, port: 5000, from: 100)
        }
    }
}
