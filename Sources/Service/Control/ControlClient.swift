// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import LinuxIO
import SystemPackage

/// The other end of a control socket: what `vhostd ctl` does.
public struct ControlClient {
    /// How long a service may take to answer.
    private static let patience = Duration.seconds(10)

    private let path: String

    /// A client of the service whose control socket is at the path.
    public init(path: String) {
        self.path = path
    }

    /// Asks, and waits for the answer.
    ///
    /// - Throws: why there is no answer, or what the answer says went wrong.
    public func ask(_ request: ControlRequest) throws(ServiceFailure) -> ControlReply {
        let line = try exchange(request)
        guard let reply = try? JSONDecoder().decode(ControlReply.self, from: Data(line)) else {
            throw ServiceFailure("\(path): an answer that this program does not know")
        }
        if let error = reply.error { throw ServiceFailure(error) }
        return reply
    }

    private func exchange(_ request: ControlRequest) throws(ServiceFailure) -> [UInt8] {
        guard let address = UnixAddress(path: path) else {
            throw ServiceFailure("\(path): too long for a socket")
        }
        do {
            let socket = try UnixSocket.connect(to: address)
            // A request is a line of less than a page, which a new connection has room for.
            let line = Array(try JSONEncoder().encode(request)) + [0x0A]
            _ = try UnixSocket.send(line, to: socket)
            return try Self.receiveLine(from: socket)
        } catch Errno.noSuchFileOrDirectory, Errno.connectionRefused {
            throw ServiceFailure("\(path): no service listens there")
        } catch {
            throw ServiceFailure("\(path): \(error)")
        }
    }

    private static func receiveLine(
        from socket: borrowing OwnedDescriptor
    ) throws -> [UInt8] {
        let loop = try EventLoop()
        let waker = Waker()
        try loop.add(socket.rawValue, interest: .readable, handler: waker)
        let end = loop.now.advanced(byNanoseconds: patience.wholeNanoseconds)
        var line: [UInt8] = []
        while loop.now < end {
            let (result, bytes, _) = try UnixSocket.receive(from: socket, upTo: 1 << 16)
            switch result {
            case .bytes: line += bytes
            case .wouldBlock: try loop.turn(waitingAtMost: .seconds(1))
            case .endOfFile: throw Errno.connectionReset
            }
            if line.last == 0x0A { return line.dropLast() }
        }
        throw Errno.timedOut
    }

    /// Ends the loop's turn.
    private final class Waker: EventHandler {
        func descriptorReady(_ readiness: Readiness, tag: Int) {}
    }
}
