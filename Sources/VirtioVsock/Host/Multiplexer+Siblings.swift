// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage

// Guests that reach each other by context identifier, without anybody in the middle. The service of
// each guest listens at `<directory>/<group>.<its CID>` for every group that it is in, and connects
// to the others' sockets there:
//
//     service of guest 3: SIBLING 3 1024 5000\n        (who asks, from which port, for which port)
//     service of guest 4: OK\n                         (when guest 4 has accepted)
//
// Then payload flows, and each service treats the socket as that of any program on the host. A guest
// that does not read stops its own service from reading, that fills the socket, and the other guest
// gets no more credit: what waits in between is bounded, end to end. Who may open the sockets may
// take part: the directory's permissions decide.
extension Multiplexer {
    /// Whether the guest may have connections with this context.
    func isReachable(_ destination: UInt64) -> Bool {
        if destination == UInt64(ContextID.host.rawValue) { return true }
        guard options.siblings != nil, let cid = UInt32(exactly: destination) else { return false }
        return ContextID(rawValue: cid).isUsableByGuest && cid != guest.rawValue
    }

    // MARK: Towards a sibling

    /// Connects to the service of a sibling, in the first group that both are in.
    func dialSibling(_ key: ConnectionKey, _ type: PacketType) throws(Errno) -> OwnedDescriptor {
        guard let siblings = options.siblings else { throw .noSuchFileOrDirectory }
        for group in siblings.groups {
            guard
                let address = UnixAddress(
                    path: siblings.path(of: key.peer, in: group, type: type))
            else { throw .fileNameTooLong }
            do throws(Errno) {
                return try UnixSocket.connect(to: address, kind: type.socketKind)
            } catch {
                if error != .noSuchFileOrDirectory && error != .connectionRefused { throw error }
            }
        }
        throw .noSuchFileOrDirectory
    }

    /// Says who asks for what; the answer comes as soon as the sibling has accepted.
    func introduce(_ slot: Int) throws(Errno) {
        let key = table.slots[slot].connection.key
        let line = SiblingLine(
            sender: guest, senderPort: key.guestPort, receiverPort: key.peerPort)
        guard table.slots[slot].host.deliverOwn(Array(line.text.utf8).span, loop: loop) else {
            throw .brokenPipe
        }
        wait(slot, .response)
    }

    /// The sibling's service has answered, or gone.
    func siblingReady(_ slot: Int) {
        switch table.slots[slot].host.readAnswer() {
        case .incomplete:
            return
        case .accepted:
            table.removeWaiting(slot)
            table.slots[slot].connection.connectedToHost()
            table.slots[slot].connection.hostReadable(isEnding: true)
        case .refused:
            counters.value.failedConnects &+= 1
            abandon(slot)
        }
        refresh(slot)
    }

    // MARK: From a sibling

    /// Goes on with what a sibling's service says, as far as it has come.
    func readIntroduction(_ slot: Int) {
        switch table.slots[slot].host.readIntroduction() {
        case .incomplete:
            return
        case .malformed:
            counters.value.failedHandshakes &+= 1
            release(slot)
        case .line(let line):
            guard line.sender.isUsableByGuest, line.sender != guest else {
                counters.value.failedHandshakes &+= 1
                release(slot)
                return
            }
            let key = ConnectionKey(
                peer: line.sender, peerPort: line.senderPort, guestPort: line.receiverPort)
            connectToGuest(slot, line.receiverPort, from: key)
        }
    }
}

/// Where the services of siblings are found.
public struct SiblingOptions: Equatable, Sendable {
    /// The directory of their sockets.
    public var directory: String
    /// The groups that the guest is in, in the order in which they are tried.
    public var groups: [String]

    public init(directory: String, groups: [String]) {
        self.directory = directory
        self.groups = groups
    }

    /// The socket of a guest's service.
    func path(of guest: ContextID, in group: String, type: PacketType) -> String {
        let suffix = type == .stream ? "" : VsockOptions.messageSuffix
        return "\(directory)/\(group).\(guest.rawValue)\(suffix)"
    }

    func validate() throws(VsockError) {
        for group in groups {
            let isName = group.utf8.allSatisfy { byte in
                byte > UInt8(ascii: " ") && byte != UInt8(ascii: "/") && byte != UInt8(ascii: ".")
            }
            guard isName, !group.isEmpty else { throw .illegalGroup(group) }
            let path = path(
                of: ContextID(rawValue: .max), in: group, type: .sequencedPacket)
            guard UnixAddress(path: path) != nil else {
                throw .pathTooLong(
                    path: path, byteCount: path.utf8.count, limit: UnixAddress.maximumByteCount)
            }
        }
    }
}

/// What the service of one guest says to the service of another.
struct SiblingLine: Equatable, BitwiseCopyable {
    var sender: ContextID
    var senderPort: VsockPort
    var receiverPort: VsockPort

    /// How far the line has come.
    enum Outcome: Equatable {
        case incomplete
        case malformed
        case line(SiblingLine)
    }

    private static let word = "SIBLING"
    /// Bytes of the longest line: the word, three numbers, three blanks and the end.
    private static let byteLimit = 41

    var text: String {
        "\(Self.word) \(sender.rawValue) \(senderPort.rawValue) \(receiverPort.rawValue)\n"
    }

    init(sender: ContextID, senderPort: VsockPort, receiverPort: VsockPort) {
        self.sender = sender
        self.senderPort = senderPort
        self.receiverPort = receiverPort
    }

    /// Reads the line at the start of the bytes.
    static func parse(_ bytes: Span<UInt8>) -> (outcome: Outcome, byteCount: Int) {
        var text: [UInt8] = []
        for index in 0..<min(bytes.count, byteLimit) {
            if bytes[index] == UInt8(ascii: "\n") {
                let line = SiblingLine(text)
                return (line.map { .line($0) } ?? .malformed, index + 1)
            }
            text.append(bytes[index])
        }
        return (bytes.count < byteLimit ? .incomplete : .malformed, 0)
    }

    private init?(_ text: [UInt8]) {
        let fields = text.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        guard fields.count == 4, fields[0].elementsEqual(Self.word.utf8) else { return nil }
        var numbers: [UInt32] = []
        for field in fields.dropFirst() {
            let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
            guard field.allSatisfy(digits.contains),
                let number = UInt32(String(decoding: field, as: UTF8.self))
            else { return nil }
            numbers.append(number)
        }
        self.init(
            sender: ContextID(rawValue: numbers[0]), senderPort: VsockPort(rawValue: numbers[1]),
            receiverPort: VsockPort(rawValue: numbers[2]))
    }
}

extension HostSocket {
    /// What a sibling's service says to our line.
    enum Answer {
        case incomplete
        case accepted
        case refused
    }

    /// Reads `OK` and the end of the line, and no byte behind them.
    func readAnswer() -> Answer {
        let expected = Array("OK\n".utf8)
        return takeLine { bytes in
            for index in 0..<min(bytes.count, expected.count)
            where bytes[index] != expected[index] {
                return (.refused, 0)
            }
            return bytes.count < expected.count ? (.incomplete, 0) : (.accepted, expected.count)
        } ?? .refused
    }

    /// Reads the line of a sibling's service, and no byte behind it.
    func readIntroduction() -> SiblingLine.Outcome {
        takeLine { SiblingLine.parse($0) } ?? .malformed
    }

    /// Shows the bytes that wait to `body`, and takes as many of them as it says.
    ///
    /// - Returns: what `body` made of them; nil at their end.
    private func takeLine<Outcome>(
        _ body: (Span<UInt8>) -> (outcome: Outcome, byteCount: Int)
    ) -> Outcome? {
        switch descriptor {
        case .none: return nil
        case .some(let socket):
            // A socket that cannot be read has nothing to say.
            guard let result = try? UnixSocket.peek(socket, body) else { return nil }
            switch result {
            case .bytes(let (outcome, byteCount)):
                if byteCount > 0 { _ = try? UnixSocket.skip(byteCount, of: socket) }
                return outcome
            case .wouldBlock: return body(Span()).outcome
            case .endOfFile: return nil
            }
        }
    }
}
