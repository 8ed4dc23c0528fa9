// SPDX-License-Identifier: Apache-2.0

import Driver
import Glibc
import LinuxIO
import Logging
import Synchronization
import SystemPackage
import Testing

@testable import VirtioVsock

/// The sockets are Unix sockets in the place of the kernel's AF_VSOCK ones, which few machines that
/// build this can connect to each other.
@Suite("A port map to AF_VSOCK sockets of the host")
struct HostVsockTests {
    private let port = VsockPort(rawValue: 9000)

    private func refusing(_ error: Errno) -> HostVsock {
        HostVsock(
            connect: { _, _, _ throws(Errno) in throw error },
            listen: { _, _, _ throws(Errno) in throw error })
    }

    /// A guest whose port 9000 of the host, or another one, leads to `text`.
    private func guest(
        _ text: String, _ sockets: HostVsock, port: UInt32 = 9000
    ) throws -> FakeGuest {
        try FakeGuest(
            .init(adjust: {
                $0.services = [VsockPort(rawValue: port): ServicePath(text)]
                $0.hostVsock = sockets
            }))
    }

    private func request(_ guest: FakeGuest) -> GuestStream {
        let stream = GuestStream(guest, peerPort: 9000, guestPort: 1025, allocation: 65_536)
        stream.request()
        guest.settle()
        return stream
    }

    /// 0xffffffff stands for every port that is not listed.
    @Test(
        "leads the guest to the context and port that it says",
        arguments: [UInt32(9000), 0xffff_ffff])
    func connects(port: UInt32) throws {
        let path = "/tmp/vsock-host-" + String(UInt64.random(in: .min ... .max), radix: 16)
        let service = try HostService(at: path)
        var sockets = refusing(.ioError)
        sockets.connect = { context, port, kind throws(Errno) in
            guard context == 1, port == 9000, kind == .stream, let address = UnixAddress(path: path)
            else { throw .invalidArgument }
            return try UnixSocket.connect(to: address)
        }
        let guest = try guest("vsock:1:%p", sockets, port: port)
        let stream = request(guest)
        #expect(stream.state == .established)
        let host = try #require(try service.accept())
        stream.write(Array("hello".utf8))
        host.write("world")
        guest.settle()
        #expect(host.readText() == "hello")
        #expect(stream.bytesRead == Array("world".utf8))
        host.close()
        guest.settle()
        #expect(stream.peerShutdown == 3)
    }

    @Test("lets the guest wait while the connection is under way, and no longer than 2 s")
    func underWay() throws {
        var sockets = refusing(.ioError)
        sockets.connect = { _, _, _ throws(Errno) in
            OwnedDescriptor(taking: socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0))
        }
        let guest = try guest("vsock:1:22", sockets)
        let stream = request(guest)
        #expect(stream.state == .requested)
        #expect(guest.device.connectionCount == 1)
        guest.advance(by: .milliseconds(1999))
        #expect(stream.state == .requested)
        guest.advance(by: .milliseconds(1))
        #expect(stream.wasReset)
        #expect(guest.device.statistics.failedConnects == 1)
    }

    @Test("refuses what comes to nothing, now or later")
    func refusals() throws {
        #expect(request(try guest("vsock:1:22", refusing(.noSuchAddressOrDevice))).wasReset)
        var sockets = refusing(.ioError)
        sockets.connect = { _, _, _ throws(Errno) in
            // A peer that goes with bytes unread leaves ECONNRESET behind.
            var ends: (Int32, Int32) = (-1, -1)
            var byte: UInt8 = 1
            // SAFETY: socketpair fills two integers, and one byte of a local is sent.
            unsafe withUnsafeMutableBytes(of: &ends) {
                _ = unsafe socketpair(
                    AF_UNIX, Int32(SOCK_STREAM.rawValue), 0,
                    $0.baseAddress?.assumingMemoryBound(to: Int32.self))
            }
            _ = unsafe send(ends.0, &byte, 1, Int32(MSG_NOSIGNAL))
            Glibc.close(ends.1)
            return OwnedDescriptor(taking: ends.0)
        }
        let guest = try guest("vsock:1:22", sockets)
        #expect(request(guest).wasReset)
        #expect(guest.device.connectionCount == 0)
    }

    @Test("leads clients of a listener to one port of the guest")
    func listens() throws {
        let address = Mutex(sockaddr_storage())
        var sockets = refusing(.ioError)
        sockets.listen = { context, port, _ throws(Errno) in
            guard context == VsockSocket.anyContext, port == 2222 else { throw .invalidArgument }
            let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
            address.withLock { address in
                address.ss_family = sa_family_t(AF_UNIX)
                var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
                // SAFETY: the calls read and fill the one local; a family alone lets the kernel
                // choose a name.
                unsafe withUnsafeMutablePointer(to: &address) {
                    unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                        _ = unsafe bind(number, $0, 2)
                        _ = listen(number, 8)
                        _ = unsafe getsockname(number, $0, &length)
                    }
                }
            }
            return OwnedDescriptor(taking: number)
        }
        let guest = try FakeGuest(
            .init(adjust: {
                $0.listeners = [VsockPort(rawValue: 22): "vsock:any:2222"]
                $0.hostVsock = sockets
            }))
        let client = HostEnd(
            OwnedDescriptor(taking: socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)),
            connectingTo: address.withLock { $0 })
        client.write("hello")
        guest.settle()
        let request = try #require(guest.takeReceived().first)
        #expect(request.destinationPort == 22)
        let stream = GuestStream(
            guest, peerPort: request.sourcePort, guestPort: 22, allocation: 65_536)
        stream.respond(to: request)
        guest.settle()
        #expect(stream.bytesRead == Array("hello".utf8))
    }

    @Test("says so at once where the kernel has no AF_VSOCK")
    func noAddressFamily() throws {
        let sockets = refusing(.addressFamilyNotSupported)
        let error = #expect(throws: VsockError.self) {
            try FakeGuest(
                .init(adjust: {
                    $0.listeners = [VsockPort(rawValue: 22): "vsock:any:2222"]
                    $0.hostVsock = sockets
                }))
        }
        #expect(
            error?.description == """
                vsock:any:2222: there are no AF_VSOCK sockets here: the kernel has no vsock, or the \
                service's sandbox forbids the address family
                """)
        // A service that the guest may never ask for does not keep the device from being made.
        #expect(request(try guest("vsock:1:22", sockets)).wasReset)
    }

    @Test(
        "is refused when it is no address",
        arguments: [
            "vsock:", "vsock:1", "vsock:1:", "vsock:one:22", "vsock:1:22:3", "vsock:1:4294967296",
            "vsock:-1:22", "vsock:any:22",
        ])
    func badAddresses(_ text: String) {
        var options = VsockOptions(guestCID: 3, path: "/tmp/v")
        options.services = [port: ServicePath(text)]
        #expect(throws: VsockError.illegalHostAddress(text)) { try options.validate() }
    }

    @Test("is made by the kernel, where it has AF_VSOCK at all")
    func kernel() {
        let port = UInt32.random(in: 1 << 20..<1 << 30)
        do throws(Errno) {
            let first = try VsockSocket.listen(at: VsockSocket.anyContext, port: port)
            // The port is the one that was asked for: nobody else can have it.
            #expect(throws: Errno.addressInUse) {
                _ = try VsockSocket.listen(at: VsockSocket.anyContext, port: port)
            }
            _ = consume first
        } catch {
            #expect(error == .addressFamilyNotSupported)
        }
    }
}
