// SPDX-License-Identifier: Apache-2.0

import Driver
import Glibc
import LinuxIO
import SystemPackage
import Testing

@testable import VirtioVsock

/// A guest whose port 9000 of the host, and whose own port 22, lead to AF_VSOCK sockets of the host, and
/// the programs there.
///
/// Few machines that build this can connect such sockets to each other: Unix sockets take their place
/// unless VHOSTD_HOST_VSOCK is set, as it is in the guest of `GuestTests.HostVsockGuestTests`.
final class HostVsockBench {
    static let isReal = ProcessEnvironment.variable("VHOSTD_HOST_VSOCK") != nil

    let guest: FakeGuest
    private let sockets: HostVsock
    private let clientPort: UInt32
    private let listener: UnixListener

    init() throws {
        let sockets = Self.isReal ? HostVsock.kernel : Self.standIn()
        // Of three ports that nobody else has: a service, nobody, and ours for clients.
        let port = UInt32.random(in: 1 << 20..<1 << 30)
        listener = UnixListener(
            taking: try sockets.listen(VsockSocket.anyContext, port, .stream))
        guest = try FakeGuest(
            .init(adjust: {
                $0.hostVsock = sockets
                $0.services = [
                    VsockPort(rawValue: 9000): ServicePath("vsock:1:\(port)"),
                    VsockPort(rawValue: 9001): ServicePath("vsock:1:\(port + 1)"),
                ]
                $0.listeners = [VsockPort(rawValue: 22): "vsock:any:\(port + 2)"]
            }))
        self.sockets = sockets
        clientPort = port + 2
    }

    /// Unix sockets, which the port tells apart.
    private static func standIn() -> HostVsock {
        let name = "vhostd-test-" + String(UInt64.random(in: .min ... .max), radix: 16)
        @Sendable func address(_ port: UInt32) throws(Errno) -> UnixAddress {
            guard let address = UnixAddress(abstractName: "\(name)-\(port)") else {
                throw .fileNameTooLong
            }
            return address
        }
        return HostVsock(
            connect: { _, port, kind throws(Errno) in
                try UnixSocket.connect(to: address(port), kind: kind)
            },
            listen: { _, port, kind throws(Errno) in
                let address = try address(port)
                do {
                    let listener = try UnixListener(address, kind: kind)
                    return OwnedDescriptor(
                        taking: fcntl(listener.descriptorNumber, F_DUPFD_CLOEXEC, 0))
                } catch {
                    throw .addressInUse
                }
            })
    }

    // MARK: Time

    /// Turns the loop until something is so: the kernel's sockets take a moment.
    func turn(
        until condition: () throws -> Bool, sourceLocation: SourceLocation = #_sourceLocation
    ) rethrows {
        for _ in 0..<20_000 {
            guest.settle()
            if try condition() { return }
            usleep(1000)
        }
        Issue.record("it has not come to that", sourceLocation: sourceLocation)
    }

    // MARK: Connections

    /// A connection that the guest has made, and the program's end of it.
    func connect(
        from guestPort: UInt32 = 1025, allocation: UInt32 = 256 * 1024
    ) throws -> (stream: GuestStream, host: HostEnd) {
        let stream = GuestStream(
            guest, peerPort: 9000, guestPort: guestPort, allocation: allocation)
        stream.request()
        var host: HostEnd?
        try turn {
            if host == nil, let socket = try listener.accept() { host = HostEnd(socket) }
            return host != nil && stream.state == .established
        }
        return (stream, try #require(host))
    }

    /// A connection that a program has made, and the guest's end of it.
    func accept() throws -> (stream: GuestStream, host: HostEnd) {
        let host = HostEnd(try sockets.connect(VsockSocket.localContext, clientPort, .stream))
        try turn { try host.isConnected() }
        var request: Packet?
        turn {
            request = request ?? guest.takeReceived().first
            return request != nil
        }
        let packet = try #require(request)
        #expect(packet.destinationPort == 22)
        let stream = GuestStream(
            guest, peerPort: packet.sourcePort, guestPort: 22, allocation: 256 * 1024)
        stream.respond(to: packet)
        return (stream, host)
    }

    /// Reads what a program is sent until there are so many bytes.
    func read(_ count: Int, at host: HostEnd) -> [UInt8] {
        var bytes: [UInt8] = []
        turn {
            while case .bytes(let part) = host.read(count - bytes.count) {
                bytes += part
                if bytes.count == count { break }
            }
            return bytes.count == count
        }
        return bytes
    }

    /// Has a program write all of some bytes.
    func write(_ bytes: [UInt8], at host: HostEnd) {
        var rest = bytes[...]
        turn {
            rest = rest.dropFirst(max(0, host.write(Array(rest.prefix(50_000)))))
            return rest.isEmpty
        }
    }
}
