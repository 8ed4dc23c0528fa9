// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import SystemPackage
import Testing

/// A program on the host: one end of a Unix socket, never blocking.
final class HostEnd {
    /// What became of a read or a write.
    enum Outcome: Equatable {
        case bytes([UInt8])
        case wouldBlock
        case endOfFile
        case failed(Int32)
    }

    private var owned: OwnedDescriptor?
    private let number: Int32

    init(_ descriptor: consuming OwnedDescriptor) {
        number = descriptor.rawValue
        owned = consume descriptor
    }

    /// Closes both halves at once, as the end of the program does.
    func close() { owned = nil }

    /// Connects to a listener.
    convenience init(connectingTo path: String, kind: SocketKind = .stream) throws {
        let address = try #require(UnixAddress(path: path))
        self.init(try UnixSocket.connect(to: address, kind: kind))
    }

    /// Connects a socket to an address of whatever family.
    convenience init(
        _ descriptor: consuming OwnedDescriptor, connectingTo address: sockaddr_storage
    ) {
        let number = descriptor.rawValue
        // SAFETY: connect reads the family and the name, which is a name that the kernel chose for
        // a Unix socket: a zero and five digits.
        unsafe withUnsafePointer(to: address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                let outcome = unsafe connect(number, $0, 8)
                #expect(outcome == 0)
            }
        }
        self.init(descriptor)
    }

    /// Writes as much as the socket takes at once; how much that was, or the errno as a negative
    /// number.
    @discardableResult
    func write(_ bytes: [UInt8]) -> Int {
        // SAFETY: reads the array, no further than its end.
        let count = unsafe send(
            number, bytes, bytes.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
        return count < 0 ? Int(-errno) : count
    }

    /// Writes text.
    @discardableResult
    func write(_ text: String) -> Int { write(Array(text.utf8)) }

    /// Reads what is there, at most `limit` bytes.
    func read(_ limit: Int = 1 << 20) -> Outcome { receive(limit, 0) }

    private func receive(_ limit: Int, _ flags: Int32) -> Outcome {
        var bytes = [UInt8](repeating: 0, count: limit)
        // SAFETY: fills the array, no further than its end.
        let count = unsafe recv(number, &bytes, limit, flags | Int32(MSG_DONTWAIT))
        if count < 0 { return errno == EAGAIN ? .wouldBlock : .failed(errno) }
        return count == 0 ? .endOfFile : .bytes(Array(bytes.prefix(count)))
    }

    /// Shows what is there, at most `limit` bytes, and leaves it there.
    func peek(_ limit: Int) -> Outcome { receive(limit, Int32(MSG_PEEK)) }

    /// Reads what is there as text; empty when there is nothing.
    func readText() -> String {
        guard case .bytes(let bytes) = read() else { return "" }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The first bytes of the peer's address: its family, and what else that has.
    var peerAddress: [UInt8] {
        var address = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        // SAFETY: the call fills the one local, whose size it is told.
        unsafe withUnsafeMutablePointer(to: &address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = unsafe getpeername(number, $0, &length)
            }
        }
        return unsafe withUnsafeBytes(of: address) { unsafe Array($0) }
    }

    /// Whether the connection that was begun has been made.
    func isConnected() throws(Errno) -> Bool {
        switch owned {
        case .some(let socket): try VsockSocket.isConnected(socket)
        case .none: false
        }
    }

    /// Closes one half.
    func shutDown(_ half: SocketHalf) {
        switch owned {
        case .some(let socket): UnixSocket.shutDown(half, of: socket)
        case .none: break
        }
    }
}

/// A service on the host: a listener of a port of the guest.
final class HostService {
    private let listener: UnixListener

    init(at path: String, kind: SocketKind = .stream, backlog: Int32 = 128) throws {
        let address = try #require(UnixAddress(path: path))
        listener = try UnixListener(address, kind: kind, backlog: backlog)
    }

    /// Takes the connection that waits; nil when none does.
    func accept() throws -> HostEnd? {
        switch try listener.accept() {
        case .none: nil
        case .some(let descriptor): HostEnd(descriptor)
        }
    }
}
