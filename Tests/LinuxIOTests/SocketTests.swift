// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import SystemPackage
import Testing

/// A folder for sockets, removed with what is in it.
final class SocketFolder {
    let path: String
    private(set) var names: [String] = []

    init() throws {
        var template = Array("/var/tmp/linuxio-test-XXXXXX".utf8CString)
        let made = unsafe template.withUnsafeMutableBufferPointer {
            unsafe $0.baseAddress.map { unsafe mkdtemp($0) } != nil
        }
        try #require(made)
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        for name in names { _ = unsafe unlink("\(path)/\(name)") }
        _ = unsafe rmdir(path)
    }

    func address(_ name: String = "socket") throws -> UnixAddress {
        names.append(name)
        return try #require(UnixAddress(path: "\(path)/\(name)"))
    }
}

extension UnixListener {
    /// Takes the next connection, which the caller has to close; nil when nobody waits.
    func acceptNumber() throws -> Int32? {
        guard let connection = try accept() else { return nil }
        return connection.release()
    }
}

extension ReceivedDescriptors {
    /// Takes a descriptor, which the caller has to close.
    func takeNumber(_ index: Int) -> Int32? {
        guard let descriptor = take(index) else { return nil }
        return descriptor.release()
    }
}

func exists(_ address: UnixAddress) -> Bool {
    unsafe access(address.path, F_OK) == 0
}

@Suite("A Unix address")
struct UnixAddressTests {
    @Test("takes paths that fit into sun_path with a final zero (unix(7))")
    func lengths() {
        #expect(UnixAddress(path: "") == nil)
        #expect(UnixAddress(path: "/a\0b") == nil)
        #expect(UnixAddress(path: String(repeating: "a", count: 107)) != nil)
        #expect(UnixAddress(path: String(repeating: "a", count: 108)) == nil)
        #expect(UnixAddress(path: String(repeating: "\u{e9}", count: 54)) == nil)
    }
}

@Suite("A Unix listener")
struct UnixListenerTests {
    private let folder: SocketFolder
    private let address: UnixAddress

    init() throws {
        folder = try SocketFolder()
        address = try folder.address()
    }

    @Test(
        "accepts who connects, and says when nobody waits",
        arguments: [SocketKind.stream, .sequencedPacket])
    func accepts(_ kind: SocketKind) throws {
        let listener = try UnixListener(address, kind: kind)
        #expect(try listener.acceptNumber() == nil)
        let client = try UnixSocket.connect(to: address, kind: kind)
        let server = OwnedDescriptor(taking: try #require(try listener.acceptNumber()))
        #expect(try listener.acceptNumber() == nil)
        #expect(fcntl(server.rawValue, F_GETFD) & FD_CLOEXEC != 0)
        #expect(fcntl(server.rawValue, F_GETFL) & O_NONBLOCK != 0)
        #expect(client.rawValue != server.rawValue)
    }

    @Test("removes its name when it goes")
    func cleansUp() throws {
        do {
            let listener = try UnixListener(address)
            #expect(exists(address))
            withExtendedLifetime(listener) {}
        }
        #expect(!exists(address))
    }

    @Test("replaces a socket that nobody answers any more")
    func stale() throws {
        // A listener that dies without cleaning up leaves its name.
        let first = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        try bindRaw(first)
        close(first)
        #expect(exists(address))
        let listener = try UnixListener(address)
        _ = try UnixSocket.connect(to: address)
        let connection = try listener.acceptNumber()
        close(try #require(connection))
    }

    private func bindRaw(_ number: Int32) throws {
        var raw = sockaddr_un()
        raw.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &raw.sun_path) {
            unsafe $0.copyBytes(from: address.path.utf8)
        }
        let code = unsafe withUnsafePointer(to: raw) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(code == 0)
    }

    @Test("does not take a name from a listener that lives, of either kind, busy or not")
    func inUse() throws {
        let first = try UnixListener(address, backlog: 0)
        for kind in [SocketKind.stream, .sequencedPacket] {
            #expect(throws: UnixListener.Failure.inUse(path: address.path)) {
                _ = try UnixListener(address, kind: kind)
            }
        }
        // Its backlog is full now, with the connection of the first attempt.
        for _ in 0..<3 {
            #expect(throws: UnixListener.Failure.inUse(path: address.path)) {
                _ = try UnixListener(address)
            }
        }
        let connection = try first.acceptNumber()
        close(try #require(connection))
        #expect(exists(address))
    }

    @Test("leaves alone what is not a socket")
    func notASocket() throws {
        close(unsafe open(address.path, O_CREAT | O_WRONLY, 0o600))
        #expect(throws: UnixListener.Failure.notASocket(path: address.path)) {
            _ = try UnixListener(address)
        }
        #expect(exists(address))
    }

    @Test("names the path and the call when it cannot be made")
    func failure() throws {
        let address = try #require(UnixAddress(path: "/nonexistent/socket"))
        do throws(UnixListener.Failure) {
            _ = try UnixListener(address)
            Issue.record("a listener in a folder that does not exist")
        } catch {
            #expect(
                error
                    == .system(
                        path: "/nonexistent/socket", operation: "bind", .noSuchFileOrDirectory))
            #expect(error.description == "/nonexistent/socket: bind: No such file or directory")
        }
    }

    @Test("does not remove a name that became somebody else's")
    func foreignName() throws {
        do {
            let listener = try UnixListener(address)
            _ = unsafe unlink(address.path)
            close(unsafe open(address.path, O_CREAT | O_WRONLY, 0o600))
            withExtendedLifetime(listener) {}
        }
        #expect(exists(address))
    }

    @Test("does not remove the name of a socket that was handed to it")
    func activated() throws {
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        try bindRaw(number)
        listen(number, 1)
        do {
            let listener = UnixListener(taking: OwnedDescriptor(taking: number))
            withExtendedLifetime(listener) {}
        }
        #expect(exists(address))
    }
}

@Suite("A Unix socket")
struct UnixSocketTests {
    private func receive(
        _ socket: borrowing OwnedDescriptor, byteCount: Int = 64
    ) throws -> ([UInt8], IOResult, ReceivedDescriptors) {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        var span = bytes.mutableSpan
        var raw = unsafe span.mutableBytes
        let (result, descriptors) = try UnixSocket.receive(from: socket, into: &raw)
        guard case .bytes(let count) = result else { return ([], result, descriptors) }
        return (Array(bytes.prefix(count)), result, descriptors)
    }

    private func send(
        _ bytes: [UInt8], _ descriptors: [Int32] = [], to socket: borrowing OwnedDescriptor
    ) throws -> IOResult {
        try unsafe UnixSocket.send(bytes.span.bytes, descriptors: descriptors, to: socket)
    }

    @Test("passes descriptors, close-on-exec and for the same open file")
    func passesDescriptors() throws {
        let pair = try UnixSocket.pair()
        let counter = try EventCounter()
        let count = 32
        let numbers = Array(repeating: counter.descriptor.rawValue, count: count)
        #expect(try send([1, 2, 3], numbers, to: pair.first) == .bytes(3))
        let (bytes, _, descriptors) = try receive(pair.second)
        #expect(bytes == [1, 2, 3])
        #expect(descriptors.count == count)
        for index in 0..<count {
            let taken = OwnedDescriptor(taking: try #require(descriptors.takeNumber(index)))
            #expect(taken.rawValue != counter.descriptor.rawValue)
            #expect(fcntl(taken.rawValue, F_GETFD) & FD_CLOEXEC != 0)
        }
        #expect(descriptors.takeNumber(0) == nil)
        #expect(descriptors.takeNumber(count) == nil)
        #expect(descriptors.takeNumber(-1) == nil)
    }

    @Test("closes the descriptors that nobody takes")
    func closesUntaken() throws {
        let pair = try UnixSocket.pair()
        var ends: (Int32, Int32) = (-1, -1)
        let code = unsafe withUnsafeMutableBytes(of: &ends) {
            unsafe pipe($0.baseAddress?.assumingMemoryBound(to: Int32.self))
        }
        try #require(code == 0)
        let reading = OwnedDescriptor(taking: ends.0)
        try reading.setNonblocking()
        _ = try send([1], [ends.1, ends.1, ends.1], to: pair.first)
        close(ends.1)
        do {
            let (_, _, descriptors) = try receive(pair.second)
            #expect(descriptors.count == 3)
            close(try #require(descriptors.takeNumber(1)))
            var byte: UInt8 = 0
            // Two writers are left, so that the pipe is empty and not at its end.
            #expect(unsafe read(reading.rawValue, &byte, 1) == -1)
        }
        var byte: UInt8 = 0
        #expect(unsafe read(reading.rawValue, &byte, 1) == 0)
    }

    @Test("closes every descriptor of a message that carries too many")
    func tooMany() throws {
        let pair = try UnixSocket.pair()
        let counter = try EventCounter()
        let numbers = Array(repeating: counter.descriptor.rawValue, count: 33)
        _ = try send([1], numbers, to: pair.first)
        #expect(throws: Errno.messageTooLong) { _ = try receive(pair.second) }
        #expect(throws: Errno.invalidArgument) {
            _ = try send(
                [1], Array(repeating: counter.descriptor.rawValue, count: 65), to: pair.first)
        }
    }

    @Test("says would-block and end of file as values, and never raises SIGPIPE")
    func values() throws {
        let pair = try UnixSocket.pair()
        let (_, empty, _) = try receive(pair.second)
        #expect(empty == .wouldBlock)
        UnixSocket.shutDown(.writing, of: pair.first)
        let (_, end, _) = try receive(pair.second)
        #expect(end == .endOfFile)
        UnixSocket.shutDown(.both, of: pair.second)
        #expect(throws: Errno.brokenPipe) { _ = try send([1], to: pair.first) }
    }

    @Test("sends from pieces and receives into pieces")
    func pieces() throws {
        let pair = try UnixSocket.pair()
        let source = Pieces([1, 5, 10], filledFrom: 1)
        #expect(try UnixSocket.send(source.list.all, to: pair.first) == .bytes(16))
        let target = Pieces([7, 2, 20])
        #expect(
            try UnixSocket.receive(from: pair.second, into: target.list.all) == .bytes(16))
        #expect(target.bytes == Array(1...16) + Array(repeating: 0, count: 13))
        #expect(
            try UnixSocket.receive(from: pair.second, into: target.list.all) == .wouldBlock)
    }

    @Test("says so when nobody listens")
    func refused() throws {
        let folder = try SocketFolder()
        let address = try folder.address()
        #expect(throws: Errno.noSuchFileOrDirectory) {
            _ = try UnixSocket.connect(to: address)
        }
    }
}
