// SPDX-License-Identifier: Apache-2.0

// The protocol of the test streams, the same from the guest and from the host. A client connects and
// sends one line:
//
//   sink BYTES SEED     then sends BYTES of the pattern and end of stream; the server checks each word
//                       and answers "BYTES CHECKSUM" of what it got.
//   source BYTES SEED   the server sends BYTES and end of stream; the client checks, and answers
//                       "BYTES CHECKSUM".
//   echo                the server returns what it gets until end of stream, and ends its own.
//
// Both directions therefore use half-close, and both ends know when data was lost. BYTES is a
// multiple of eight. Any disagreement ends the connection with a line that says so.

/// The outcome of one transfer: what both ends agree on.
public struct StreamSummary: Equatable, Sendable, CustomStringConvertible {
    public var byteCount: UInt64 = 0
    public var checksum = StreamChecksum().value

    /// What travels in the answer line.
    public var description: String { "\(byteCount) \(String(checksum, radix: 16))" }
}

/// The two ends of a transfer over a connected socket.
public struct StreamExchange: Sendable {
    /// Bytes a read or write asks for at once.
    public static let chunkByteCount = 64 * 1024

    let socket: StreamSocket

    public init(over socket: StreamSocket) {
        self.socket = socket
    }

    /// Client: sends `byteCount` bytes and returns the summary once the server has confirmed it.
    ///
    /// Each write has `blockByteCount` bytes, a multiple of eight up to `chunkByteCount`.
    public func send(
        byteCount: UInt64, seed: UInt64, blockByteCount: Int = chunkByteCount
    ) throws(StreamError) -> StreamSummary {
        try socket.write("sink \(byteCount) \(seed)\n")
        let sent = try sendPattern(
            byteCount: byteCount, seed: seed, blockByteCount: blockByteCount)
        try expectAnswer("\(sent)")
        return sent
    }

    /// Client: asks for `byteCount` bytes, checks them, and confirms them to the server.
    public func receive(byteCount: UInt64, seed: UInt64) throws(StreamError) -> StreamSummary {
        try socket.write("source \(byteCount) \(seed)\n")
        let received = try receivePattern(byteCount: byteCount, seed: seed)
        try socket.write("\(received)\n")
        try socket.finishSending()
        return received
    }

    /// Server: serves the one request of this connection.
    public func serve() throws(StreamError) {
        let request = try socket.readLine()
        let words = request.split(separator: " ")
        guard let verb = words.first else { throw .wrongAnswer(request) }
        if verb == "echo" { return try echo() }
        guard words.count == 3, let byteCount = UInt64(words[1]), let seed = UInt64(words[2]) else {
            throw .wrongAnswer(request)
        }
        if verb == "sink" {
            try socket.write("\(receivePattern(byteCount: byteCount, seed: seed))\n")
            try socket.finishSending()
        } else {
            try expectAnswer("\(sendPattern(byteCount: byteCount, seed: seed))")
        }
    }

    private func expectAnswer(_ expected: String) throws(StreamError) {
        let answer = try socket.readLine()
        guard answer == expected else { throw .wrongAnswer(answer) }
        guard try socket.isAtEnd() else { throw .wrongAnswer("\(answer), and more after it") }
    }

    private func sendPattern(
        byteCount: UInt64, seed: UInt64, blockByteCount: Int = chunkByteCount
    ) throws(StreamError) -> StreamSummary {
        let pattern = StreamPattern(seed: seed)
        var words = [UInt64](repeating: 0, count: blockByteCount / 8)
        var checksum = StreamChecksum()
        var position: UInt64 = 0
        while position < byteCount / 8 {
            let wordCount = Int(min(UInt64(words.count), byteCount / 8 - position))
            pattern.fill(&words, wordCount: wordCount, from: position)
            checksum.update(words, wordCount: wordCount)
            try socket.write(words, wordCount: wordCount)
            position += UInt64(wordCount)
        }
        try socket.finishSending()
        return StreamSummary(byteCount: position * 8, checksum: checksum.value)
    }

    private func receivePattern(
        byteCount: UInt64, seed: UInt64
    ) throws(StreamError) -> StreamSummary {
        let pattern = StreamPattern(seed: seed)
        var words = [UInt64](repeating: 0, count: Self.chunkByteCount / 8)
        var checksum = StreamChecksum()
        var position: UInt64 = 0
        while true {
            let received = try socket.read(into: &words, wordCount: words.count)
            let wordCount = received / 8
            if let wrong = pattern.firstDifference(in: words, wordCount: wordCount, from: position)
            {
                throw .wrongData(byteOffset: (position + UInt64(wrong)) * 8)
            }
            checksum.update(words, wordCount: wordCount)
            position += UInt64(wordCount)
            if received < words.count * 8 { break }
        }
        guard position * 8 == byteCount else {
            throw .endOfStream(expected: "byte \(byteCount), at byte \(position * 8)")
        }
        return StreamSummary(byteCount: position * 8, checksum: checksum.value)
    }

    private func echo() throws(StreamError) {
        var words = [UInt64](repeating: 0, count: Self.chunkByteCount / 8)
        while try socket.returnWhatArrives(through: &words) {}
        try socket.finishSending()
    }
}
