// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing

@testable import VirtioVsock

/// Bytes that tell where in a stream they belong.
func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 8)
    while bytes.count < count {
        let word = generator.next()
        for shift in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: word >> (8 * UInt64(shift)))) }
    }
    return Array(bytes.prefix(count))
}

@Suite("A stream")
struct StreamTests {
    @Test("carries bytes from the guest to a service", arguments: RingFormat.allCases)
    func hostbound(_ format: RingFormat) throws {
        let guest = try FakeGuest(.init(format: format))
        let service = try guest.service(at: 5000)
        let (stream, host) = try guest.connect(to: service, port: 5000, from: 1025)
        stream.write(Array("hello".utf8))
        guest.settle()
        #expect(host.readText() == "hello")
    }

    @Test("carries bytes from a client to the guest", arguments: RingFormat.allCases)
    func guestbound(_ format: RingFormat) throws {
        let guest = try FakeGuest(.init(format: format))
        let (stream, host) = try guest.accept(at: 22)
        host.write("hello")
        guest.settle()
        #expect(stream.bytesRead == Array("hello".utf8))
    }
}
