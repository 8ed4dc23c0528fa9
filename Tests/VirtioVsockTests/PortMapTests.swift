// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("A port map")
struct PortMapTests {
    @Test("leads clients to one port of the guest, without a line and without an answer")
    func listener() throws {
        let path = "/tmp/vsock-map-" + String(UInt64.random(in: .min ... .max), radix: 16)
        let guest = try FakeGuest(
            .init(adjust: { $0.listeners = [VsockPort(rawValue: 22): path] }))
        let client = try HostEnd(connectingTo: path)
        client.write("hello")
        guest.settle()
        let request = try #require(guest.takeReceived().first)
        #expect(request.operation == Packet.request)
        #expect(request.destinationPort == 22)
        let stream = GuestStream(
            guest, peerPort: request.sourcePort, guestPort: 22, allocation: 65_536)
        stream.respond(to: request)
        stream.write(Array("banner".utf8))
        guest.settle()
        #expect(stream.bytesRead == Array("hello".utf8))
        #expect(client.readText() == "banner")
    }

    @Test("leads the guest to a path with its identifier and the port in it")
    func service() throws {
        let name = "/tmp/vsock-map-" + String(UInt64.random(in: .min ... .max), radix: 16)
        let guest = try FakeGuest(
            .init(adjust: {
                $0.services = [VsockPort(rawValue: 9000): ServicePath(name + "-%c-%p")]
            }))
        let service = try HostService(at: name + "-3-9000")
        let (stream, host) = try guest.connect(to: service, port: 9000, from: 1025)
        stream.write(Array("hello".utf8))
        guest.settle()
        #expect(host.readText() == "hello")
    }

    @Test("leads the guest to one place for all ports that have none of their own")
    func allOthers() throws {
        let name = "/tmp/vsock-map-" + String(UInt64.random(in: .min ... .max), radix: 16)
        let guest = try FakeGuest(
            .init(adjust: {
                $0.services = [
                    VsockPort(rawValue: 0xffff_ffff): ServicePath(name + "-%c"),
                    VsockPort(rawValue: 22): ServicePath(name + "-ssh"),
                ]
            }))
        let everything = try HostService(at: name + "-3")
        let ssh = try HostService(at: name + "-ssh")
        for port in [UInt32(23), 9000, 0xffff_fffe] {
            _ = try guest.connect(to: everything, port: port, from: 1025)
        }
        _ = try guest.connect(to: ssh, port: 22, from: 1025)
        #expect(try everything.accept() == nil)
    }

    @Test(
        "writes what its template says",
        arguments: [
            ("/run/%c/%p", "/run/3/9000"), ("/run/a%%b", "/run/a%b"), ("/run/plain", "/run/plain"),
        ])
    func template(_ template: String, _ path: String) {
        let made = ServicePath(template).path(
            guest: ContextID(rawValue: 3), port: VsockPort(rawValue: 9000))
        #expect(made == path)
    }

    @Test("is refused when its longest path is too long")
    func tooLong() {
        var options = VsockOptions(guestCID: 3, path: "/tmp/v")
        let template = "/tmp/" + String(repeating: "x", count: 90) + "%c%p"
        options.services = [VsockPort(rawValue: 1): ServicePath(template)]
        #expect(throws: VsockError.pathTooLong(path: template, byteCount: 115, limit: 107)) {
            try options.validate()
        }
    }
}
