// SPDX-License-Identifier: Apache-2.0

/// Reads the line with which a client on the host names the guest's port: `CONNECT <port>\n`.
///
/// Byte by byte and without a buffer, so that it does not matter how the line is cut into writes.
/// The word may be in any case; blanks between the word and the number, blanks and a carriage
/// return behind it are passed over. A line is at most `byteLimit` bytes long.
struct HandshakeParser: BitwiseCopyable {
    /// How far the line has come.
    enum Outcome: Equatable {
        /// The line is not complete.
        case incomplete
        /// The line is complete after this many bytes of the last chunk.
        case port(VsockPort, byteCount: Int)
        /// This is no such line.
        case malformed
    }

    /// Bytes that a line may have, its end included.
    static let byteLimit = 32

    private enum State: UInt8, BitwiseCopyable {
        case word
        case gap
        case number
        case tail
    }

    private var state = State.word
    private var byteCount: UInt8 = 0
    private var number: UInt64 = 0

    /// Takes the next bytes of the line.
    mutating func parse(_ bytes: Span<UInt8>) -> Outcome {
        for index in 0..<bytes.count {
            let byte = bytes[index]
            byteCount += 1
            if byte == UInt8(ascii: "\n") { return finish(after: index + 1) }
            guard byteCount < Self.byteLimit, accept(byte) else { return .malformed }
        }
        return .incomplete
    }

    private mutating func accept(_ byte: UInt8) -> Bool {
        let isBlank = byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t")
        switch state {
        case .word: return acceptWord(byte, isBlank: isBlank)
        case .gap: return isBlank || acceptDigit(byte)
        case .number where isBlank || byte == UInt8(ascii: "\r"):
            state = .tail
            return true
        case .number: return acceptDigit(byte)
        case .tail: return isBlank || byte == UInt8(ascii: "\r")
        }
    }

    private mutating func acceptWord(_ byte: UInt8, isBlank: Bool) -> Bool {
        let letters: [7 of UInt8] = [0x43, 0x4f, 0x4e, 0x4e, 0x45, 0x43, 0x54]
        let position = Int(byteCount) - 1
        if position == letters.count {
            state = .gap
            return isBlank
        }
        return letters[position] == byte & ~0x20
    }

    private mutating func acceptDigit(_ byte: UInt8) -> Bool {
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return false }
        state = .number
        number = number * 10 + UInt64(byte - UInt8(ascii: "0"))
        return number < UInt64(VsockPort.any.rawValue)
    }

    private func finish(after byteCount: Int) -> Outcome {
        guard state == .number || state == .tail else { return .malformed }
        return .port(VsockPort(rawValue: UInt32(number)), byteCount: byteCount)
    }
}
