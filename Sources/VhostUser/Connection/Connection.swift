// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage

/// Who is served by a connection.
protocol ConnectionHandler: AnyObject {
    /// A message came. Either it is dealt with on return, or the connection was held.
    func received(_ message: Message)

    /// The front-end has gone, or sent what cannot be read. Called once; `close` is up to the
    /// handler.
    ///
    /// - Parameter error: nil when it went between two messages.
    func connectionEnded(_ error: VhostUserError?)
}

/// The socket to one front-end: messages in, replies out, in order and one at a time.
///
/// While a request is being worked on, or a reply waits for room, nothing more is read: what the
/// front-end sends meanwhile waits in the socket.
///
/// Lives on its device's thread.
final class Connection: EventHandler {
    /// Messages taken in one turn of the loop, so that a flood does not starve the rings.
    private static let budget = 64

    private let loop: EventLoop
    private let socket: OwnedDescriptor
    private var registration: Registration?
    private var interest: Interest = [.readable, .peerClosed]
    private var reader = MessageReader()
    private var outgoing: [UInt8] = []
    private var isHeld = false
    private weak var handler: (any ConnectionHandler)?

    /// Takes over a connected socket.
    init(
        taking socket: consuming OwnedDescriptor, loop: EventLoop
    ) throws(Errno) {
        self.loop = loop
        self.socket = socket
        try self.socket.setNonblocking()
    }

    /// Starts to read.
    func start(_ handler: any ConnectionHandler) throws(Errno) {
        self.handler = handler
        registration = try loop.add(socket.rawValue, interest: interest, handler: self)
    }

    /// Stops reading until `release`; only the front-end's going is still reported.
    func hold() {
        isHeld = true
        updateInterest()
    }

    /// Reads again.
    func release() {
        isHeld = false
        updateInterest()
    }

    /// Sends a reply, in one write where the socket has room.
    func send(_ bytes: [UInt8]) {
        outgoing += bytes
        flush()
    }

    /// Says nothing more and hears nothing more.
    func close() {
        handler = nil
        if let registration { loop.remove(registration) }
        registration = nil
        UnixSocket.shutDown(.both, of: socket)
    }

    /// Ends the connection if the front-end has gone, although its event has not come yet.
    func noticeDeparture() {
        if UnixSocket.peerHasGone(socket) { handler?.connectionEnded(nil) }
    }

    func descriptorReady(_ readiness: Readiness, tag: Int) {
        if readiness.contains(.writable) { flush() }
        if interest.contains(.readable) {
            read()
        } else if !readiness.isDisjoint(with: [.peerClosed, .hangUp, .error]) {
            // Whoever has gone reads no reply either.
            handler?.connectionEnded(nil)
        }
    }

    private func read() {
        var budget = Self.budget
        do throws(VhostUserError) {
            while budget > 0, interest.contains(.readable), let handler {
                switch try reader.step(socket) {
                case .message(let message):
                    handler.received(message)
                    budget -= 1
                case .progress: continue
                case .wouldBlock: return
                case .endOfFile:
                    handler.connectionEnded(nil)
                    return
                }
            }
        } catch {
            handler?.connectionEnded(error)
        }
    }

    private func flush() {
        do throws(Errno) {
            while !outgoing.isEmpty {
                switch try UnixSocket.send(outgoing, to: socket) {
                case .bytes(let count): outgoing.removeFirst(count)
                case .wouldBlock, .endOfFile:
                    updateInterest()
                    return
                }
            }
        } catch {
            // The front-end has gone; reading says so in its turn.
            outgoing.removeAll()
        }
        updateInterest()
    }

    private func updateInterest() {
        var wanted: Interest = [.peerClosed]
        if !outgoing.isEmpty { wanted.insert(.writable) }
        if outgoing.isEmpty && !isHeld { wanted.insert(.readable) }
        guard wanted != interest, let registration else { return }
        interest = wanted
        // Changing what a registered, open descriptor is watched for does not fail.
        try? loop.modify(registration, interest: wanted)
    }
}
