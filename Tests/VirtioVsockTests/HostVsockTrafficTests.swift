// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

/// See `HostVsockBench` for what the sockets are.
@Suite("An AF_VSOCK socket of the host", .serialized)
struct HostVsockTrafficTests {
    let bench: HostVsockBench
    var guest: FakeGuest { bench.guest }

    init() throws {
        bench = try HostVsockBench()
    }

    @Test("is the kernel's where that has any that can connect, with this machine as its peer")
    func family() throws {
        let (stream, host) = try bench.connect()
        let address = host.peerAddress
        // AF_VSOCK and VMADDR_CID_LOCAL (vsock(7)), or AF_UNIX.
        #expect(address[0] == (HostVsockBench.isReal ? 40 : 1))
        #expect(address[8] == (HostVsockBench.isReal ? 1 : 0))
        stream.write(Array("hello".utf8))
        #expect(bench.read(5, at: host) == Array("hello".utf8))
        host.write("world")
        bench.turn { stream.bytesRead == Array("world".utf8) }
        print("the host's sockets are of the address family \(address[0])")
    }

    // MARK: Bytes

    @Test("carries a MiB and a half each way at once, and every byte of it")
    func bulk() throws {
        let (stream, host) = try bench.connect()
        try exchange(stream, host)
    }

    @Test("carries as much between a program that came by a listener and the guest's port")
    func listener() throws {
        let (stream, host) = try bench.accept()
        try exchange(stream, host)
        host.close()
        bench.turn { stream.peerShutdown == 3 && guest.device.connectionCount == 0 }
    }

    private func exchange(_ stream: GuestStream, _ host: HostEnd) throws {
        let bytes = testBytes(1_000_000) + testBytes(572_864, seed: 2)
        stream.write(bytes)
        var unsent = bytes[...]
        var arrived: [UInt8] = []
        bench.turn {
            if !unsent.isEmpty {
                unsent = unsent.dropFirst(max(0, host.write(Array(unsent.prefix(60_000)))))
            }
            if case .bytes(let part) = host.read() { arrived += part }
            stream.resume()
            return arrived.count >= bytes.count && stream.bytesRead.count >= bytes.count
        }
        expectSame(arrived, bytes)
        expectSame(stream.bytesRead, bytes)
    }

    @Test("keeps forty connections apart")
    func crowd() throws {
        let ends = try (UInt32(1)...40).map { try bench.connect(from: $0) }
        for (index, end) in ends.enumerated() {
            end.stream.write(testBytes(3000, seed: index))
            bench.write(testBytes(5000, seed: 100 + index), at: end.host)
        }
        for (index, end) in ends.enumerated() {
            expectSame(bench.read(3000, at: end.host), testBytes(3000, seed: index))
            bench.turn { end.stream.bytesRead.count == 5000 }
            expectSame(end.stream.bytesRead, testBytes(5000, seed: 100 + index))
        }
    }

    // MARK: Credit

    @Test("makes the guest wait for a program that does not read, and go on with it")
    func slowHost() throws {
        let (stream, host) = try bench.connect()
        let bytes = testBytes(1_000_000) + testBytes(1_000_000, seed: 2)
        stream.write(bytes)
        bench.turn { guest.device.connections.first?.waitingByteCount ?? 0 > 0 }
        guest.settle()
        #expect(stream.unsentCount > 0)
        expectSame(bench.read(bytes.count, at: host), bytes)
        #expect(stream.unsentCount == 0)
    }

    @Test("makes a program wait for a guest that does not read, and go on with it")
    func slowGuest() throws {
        let (stream, host) = try bench.connect(allocation: 100_000)
        stream.readsAtOnce = false
        var sent = 0
        bench.turn {
            let count = host.write(testBytes(50_000))
            sent += max(0, count)
            return count < 0 && stream.queue.count == 100_000
        }
        #expect(sent > 100_000)
        stream.readsAtOnce = true
        stream.read()
        bench.turn { stream.bytesRead.count == sent }
        #expect(!stream.wasReset)
    }

    // MARK: Ends

    @Test("that nobody listens at is refused")
    func refusal() throws {
        let stream = GuestStream(guest, peerPort: 9001, guestPort: 1025, allocation: 65_536)
        stream.request()
        bench.turn { stream.wasReset }
        #expect(guest.device.connectionCount == 0)
        #expect(guest.device.statistics.failedConnects == 1)
    }

    @Test("carries no messages: Linux would send parts of them again")
    func messages() throws {
        let stream = GuestStream(
            guest, peerPort: 9000, guestPort: 1025, allocation: 65_536, type: 2)
        stream.request()
        bench.turn { stream.wasReset }
        #expect(guest.device.connectionCount == 0)
    }

    @Test("closed by half by the program tells the guest, which goes on sending")
    func hostClosesHalf() throws {
        let (stream, host) = try bench.connect()
        host.write("last words")
        host.shutDown(.writing)
        bench.turn { stream.peerShutdown == 2 }
        #expect(stream.bytesRead == Array("last words".utf8))
        let bytes = testBytes(600_000)
        stream.write(bytes)
        expectSame(bench.read(bytes.count, at: host), bytes)
        stream.close()
        bench.turn { stream.wasReset && host.read() == .endOfFile }
        #expect(guest.device.connectionCount == 0)
    }

    @Test("closed by half by the guest shows the program the end, behind the last byte")
    func guestClosesHalf() throws {
        let (stream, host) = try bench.connect()
        let bytes = testBytes(200_000)
        stream.write(bytes)
        stream.shutDown(2)
        expectSame(bench.read(bytes.count, at: host), bytes)
        bench.turn { host.read() == .endOfFile }
        bench.write(testBytes(600_000), at: host)
        bench.turn { stream.bytesRead.count == 600_000 }
        expectSame(stream.bytesRead, testBytes(600_000))
        host.close()
        bench.turn { stream.peerShutdown == 3 && guest.device.connectionCount == 0 }
    }

    @Test("closed by the program tells the guest of both halves, after the last byte")
    func hostCloses() throws {
        let (stream, host) = try bench.connect()
        bench.write(testBytes(150_000), at: host)
        host.close()
        bench.turn { stream.peerShutdown == 3 }
        expectSame(stream.bytesRead, testBytes(150_000))
        bench.turn { guest.device.connectionCount == 0 }
    }

    @Test("closed by the program half by half tells the guest of either, though it does not write")
    func hostClosesHalfByHalf() throws {
        let (stream, host) = try bench.connect()
        host.shutDown(.writing)
        bench.turn { stream.peerShutdown == 2 }
        host.close()
        bench.turn { stream.peerShutdown == 3 && guest.device.connectionCount == 0 }
    }

    @Test("closed by the program with bytes unread ends the wait of the guest's writer")
    func hostDiesMidTransfer() throws {
        let (stream, host) = try bench.connect()
        for _ in 0..<2 { stream.write(testBytes(1_000_000)) }
        bench.turn { guest.device.connections.first?.waitingByteCount ?? 0 > 0 }
        host.close()
        bench.turn { stream.peerShutdown == 3 && guest.device.connectionCount == 0 }
        #expect(guest.chainsUnderWay == 0)
    }

    @Test("closed by the guest gives a late program every byte, and then the end")
    func guestCloses() throws {
        let (stream, host) = try bench.connect()
        // More than the kernel takes, so that some wait here.
        let bytes = testBytes(1_000_000) + testBytes(1_000_000, seed: 2)
        stream.write(bytes)
        bench.turn { guest.device.connections.first?.waitingByteCount ?? 0 > 0 }
        var arrived: [UInt8] = []
        bench.turn {
            if stream.unsentCount > 0, case .bytes(let part) = host.read(10_000) { arrived += part }
            return stream.unsentCount == 0
        }
        stream.close()
        bench.turn { stream.wasReset }
        #expect(guest.device.connectionCount == 0)
        arrived += bench.read(bytes.count - arrived.count, at: host)
        expectSame(arrived, bytes)
        bench.turn { host.read() == .endOfFile }
    }

    @Test("closed by the guest in the middle of the program's writing makes that fail")
    func guestClosesWhileHostWrites() throws {
        let (stream, host) = try bench.connect()
        bench.write(testBytes(100_000), at: host)
        stream.close()
        bench.turn { stream.wasReset }
        var outcome = 0
        bench.turn {
            outcome = host.write(testBytes(50_000))
            return outcome < 0 && outcome != -11
        }
        #expect(outcome == -32 || outcome == -104, "EPIPE or ECONNRESET, and not \(outcome)")
    }

    @Test("whose end lies behind a window that is full shows it to the guest all the same")
    func endBehindFullWindow() throws {
        let (stream, host) = try bench.connect(allocation: 1000)
        stream.readsAtOnce = false
        host.write(testBytes(1000))
        bench.turn { stream.queue.count == 1000 }
        host.shutDown(.writing)
        bench.turn { stream.peerShutdown == 2 }
        host.close()
        bench.turn { stream.peerShutdown == 3 }
        stream.read()
        expectSame(stream.bytesRead, testBytes(1000))
    }
}
