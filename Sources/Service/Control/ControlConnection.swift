// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage

/// Who answers the lines of a connection.
protocol LineHandler: AnyObject {
    /// A line has come. `reply` is called once, at once or later, on the same thread.
    func lineReceived(_ line: [UInt8], reply: @escaping ([UInt8]) -> Void)

    /// The connection is of no more use.
    func connectionEnded(_ connection: LineConnection)
}

/// A connection that carries lines both ways: a request, then its answer, one at a time.
///
/// Lives on one loop, the main thread's.
final class LineConnection: EventHandler {
    /// Bytes that a line may have; who sends more is no client of ours.
    static let lineLimit = 1 << 16

    private let loop: EventLoop
    private let socket: OwnedDescriptor
    private var registration: Registration?
    private var interest: Interest = .readable
    private var incoming: [UInt8] = []
    private var outgoing: ArraySlice<UInt8> = []
    private var isAnswering = false
    private var endsAfterAnswer = false
    private weak var handler: (any LineHandler)?

    /// Serves a connected socket from now on.
    init(
        taking socket: consuming OwnedDescriptor, loop: EventLoop, handler: any LineHandler
    ) throws(Errno) {
        self.loop = loop
        self.socket = socket
        self.handler = handler
        registration = try loop.add(self.socket.rawValue, interest: interest, handler: self)
    }

    func descriptorReady(_ readiness: Readiness, tag: Int) {
        if readiness.contains(.writable) { send() }
        if interest.contains(.readable) { receive() }
        if interest.isEmpty, !readiness.isDisjoint(with: [.hangUp, .error]) { end() }
    }

    private func receive() {
        do throws(Errno) {
            let (result, bytes, _) = try UnixSocket.receive(from: socket, upTo: 4096)
            switch result {
            case .bytes:
                incoming += bytes
                if incoming.count > Self.lineLimit { return end() }
                takeLine()
            case .endOfFile where isAnswering || !outgoing.isEmpty:
                // A client that has said all it wants still reads the answer.
                endsAfterAnswer = true
                updateInterest()
            case .endOfFile: end()
            case .wouldBlock: break
            }
        } catch {
            end()
        }
    }

    private func takeLine() {
        guard !isAnswering, outgoing.isEmpty, let end = incoming.firstIndex(of: 0x0A) else {
            return updateInterest()
        }
        let line = Array(incoming[..<end])
        incoming.removeFirst(end + 1)
        isAnswering = true
        updateInterest()
        handler?.lineReceived(line) { [weak self] answer in self?.answer(answer) }
    }

    private func answer(_ line: [UInt8]) {
        isAnswering = false
        outgoing += line + [0x0A]
        send()
    }

    private func send() {
        do throws(Errno) {
            while !outgoing.isEmpty {
                guard case .bytes(let count) = try UnixSocket.send(Array(outgoing), to: socket)
                else { return updateInterest() }
                outgoing.removeFirst(count)
            }
        } catch {
            return end()
        }
        outgoing = []
        if endsAfterAnswer { return end() }
        takeLine()
    }

    private func updateInterest() {
        var wanted: Interest = []
        if !outgoing.isEmpty { wanted.insert(.writable) }
        if outgoing.isEmpty && !isAnswering && !endsAfterAnswer { wanted.insert(.readable) }
        guard wanted != interest, let registration else { return }
        interest = wanted
        // Changing what a registered, open descriptor is watched for does not fail.
        try? loop.modify(registration, interest: wanted)
    }

    /// Ends the connection; the handler is told.
    private func end() {
        close()
        handler?.connectionEnded(self)
    }

    func close() {
        if let registration { loop.remove(registration) }
        registration = nil
        UnixSocket.shutDown(.both, of: socket)
    }
}
