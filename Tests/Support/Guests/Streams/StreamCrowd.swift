// SPDX-License-Identifier: Apache-2.0

/// Many connections to one address that are all open at the same time.
public struct StreamCrowd: Sendable {
    public let address: StreamAddress
    public let connectionCount: Int

    public init(address: StreamAddress, connectionCount: Int) {
        self.address = address
        self.connectionCount = connectionCount
    }

    /// Opens every connection, has the peer echo blocks on all of them, and returns the bytes checked.
    ///
    /// In each round one block is sent on every connection before any is read.
    public func exchange(blockByteCount: Int, rounds: Int) throws(StreamError) -> UInt64 {
        var sockets: [StreamSocket] = []
        for _ in 0..<connectionCount {
            let socket = try address.connect()
            try socket.write("echo\n")
            sockets.append(socket)
        }
        let wordCount = blockByteCount / 8
        for round in 0..<rounds {
            for (index, socket) in sockets.enumerated() {
                try Self.send(wordCount, on: socket, seed: UInt64(index), round: round)
            }
            for (index, socket) in sockets.enumerated() {
                try Self.check(wordCount, on: socket, seed: UInt64(index), round: round)
            }
        }
        for socket in sockets { try socket.finishSending() }
        for socket in sockets {
            guard try socket.isAtEnd() else { throw .wrongAnswer("more than was sent") }
        }
        return UInt64(connectionCount * rounds * wordCount * 8)
    }

    private static func send(
        _ wordCount: Int, on socket: StreamSocket, seed: UInt64, round: Int
    ) throws(StreamError) {
        var words = [UInt64](repeating: 0, count: wordCount)
        let start = UInt64(round * wordCount)
        StreamPattern(seed: seed).fill(&words, wordCount: wordCount, from: start)
        try socket.write(words, wordCount: wordCount)
    }

    private static func check(
        _ wordCount: Int, on socket: StreamSocket, seed: UInt64, round: Int
    ) throws(StreamError) {
        var words = [UInt64](repeating: 0, count: wordCount)
        let start = UInt64(round * wordCount)
        let received = try socket.read(into: &words, wordCount: wordCount)
        guard received == wordCount * 8 else {
            throw .endOfStream(expected: "block \(round) of connection \(seed)")
        }
        let pattern = StreamPattern(seed: seed)
        if let wrong = pattern.firstDifference(in: words, wordCount: wordCount, from: start) {
            throw .wrongData(byteOffset: (start + UInt64(wrong)) * 8)
        }
    }
}
