// SPDX-License-Identifier: Apache-2.0

import Driver
import Glibc
import LinuxIO
import Testing

@testable import VirtioVsock

/// What systemd-ssh-proxy does for `ssh -p 22 vsock-mux/<path>`, call by call: it writes the line, peeks
/// at nine bytes at most, takes what it has understood, and hands the socket to ssh.
private struct SSHProxy {
    enum Outcome: Equatable {
        /// The socket goes to ssh.
        case handedOver(skipped: String)
        /// No byte came: ECONNREFUSED.
        case refused
        case failed
    }

    let client: HostEnd

    init(path: String, port: UInt32) throws {
        client = try HostEnd(connectingTo: path)
        client.write("CONNECT \(port)\n")
    }

    /// Reads the answer once it has come.
    func skipAnswer() -> Outcome {
        var known: [UInt8] = []
        while true {
            guard known.count < 9 else { return .failed }
            guard case .bytes(let bytes) = client.peek(9 - known.count) else {
                return known.isEmpty ? .refused : .failed
            }
            for byte in bytes {
                let expected = Array("OK ".utf8)
                let position = known.count
                if position < expected.count && byte != expected[position] { return .failed }
                known.append(byte)
                guard client.read(1) == .bytes([byte]) else { return .failed }
                if byte == UInt8(ascii: "\n") {
                    return .handedOver(skipped: String(decoding: known, as: UTF8.self))
                }
            }
        }
    }
}

@Suite("systemd-ssh-proxy (vsock-mux)")
struct SSHProxyTests {
    let guest: FakeGuest

    init() throws { guest = try FakeGuest() }

    @Test("skips the answer and nothing else, however early the server speaks", arguments: 0..<3)
    func banner(_ order: Int) throws {
        for _ in 0..<50 {
            let proxy = try SSHProxy(path: guest.path, port: 22)
            guest.settle()
            let request = try #require(guest.takeReceived().first)
            #expect(request.destinationPort == 22)
            let stream = GuestStream(
                guest, peerPort: request.sourcePort, guestPort: 22, allocation: 262_144)
            stream.respond(to: request)
            if order == 0 { stream.write(Array("SSH-2.0-OpenSSH_9.2\r\n".utf8)) }
            guest.settle()
            if order == 1 { stream.write(Array("SSH-2.0-OpenSSH_9.2\r\n".utf8)) }
            guest.settle()
            let answer = "OK \(request.sourcePort)\n"
            #expect(proxy.skipAnswer() == .handedOver(skipped: answer))
            if order == 2 { stream.write(Array("SSH-2.0-OpenSSH_9.2\r\n".utf8)) }
            guest.settle()
            #expect(proxy.client.readText() == "SSH-2.0-OpenSSH_9.2\r\n")
            proxy.client.write("SSH-2.0-client\r\n")
            guest.settle()
            #expect(stream.bytesRead == Array("SSH-2.0-client\r\n".utf8))
            proxy.client.close()
            guest.settle()
        }
        #expect(guest.device.connectionCount == 0)
    }

    @Test("is told of a port that is not open by the end, without a byte and without ECONNRESET")
    func refused() throws {
        let proxy = try SSHProxy(path: guest.path, port: 22)
        guest.settle()
        let request = try #require(guest.takeReceived().first)
        var reset = Packet()
        reset.sourcePort = 22
        reset.destinationPort = request.sourcePort
        reset.operation = Packet.reset
        guest.send(reset)
        guest.settle()
        #expect(proxy.client.peek(9) == .endOfFile)
        #expect(proxy.skipAnswer() == .refused)
    }
}
