// SPDX-License-Identifier: Apache-2.0
import Glibc

/// What can go wrong with a test stream.
public enum StreamError: Error, CustomStringConvertible {
    case system(call: String, code: Int32)
    case endOfStream(expected: String)
    case wrongData(byteOffset: UInt64)
    case wrongAnswer(String)
    case pathTooLong(String)

    public var description: String {
        switch self {
        case .system(let call, let code): "\(call): \(String(describingError: code))"
        case .endOfStream(let expected): "the stream ended before \(expected)"
        case .wrongData(let byteOffset): "the data is wrong at byte \(byteOffset)"
        case .wrongAnswer(let answer): "the peer answered \"\(answer)\""
        case .pathTooLong(let path): "\(path) is longer than a Unix socket's address holds"
        }
    }
}

extension String {
    /// The text that strerror has for an error number.
    init(describingError code: Int32) {
        // SAFETY: strerror answers a NUL-terminated string that stays valid until this thread's next call.
        self = unsafe strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)"
    }
}

/// One end of a connected or listening socket, AF_VSOCK or AF_UNIX; closed when released.
public final class StreamSocket: Sendable {
    /// A read or write that takes longer than this has failed.
    static let mostSecondsBlocked = 120

    public let descriptor: Int32
    /// Whether messages are exchanged, and not bytes: what a read leaves of one is lost.
    private let keepsMessages: Bool

    public init(descriptor: Int32, keepsMessages: Bool = false) {
        self.descriptor = descriptor
        self.keepsMessages = keepsMessages
    }

    deinit {
        close(descriptor)
    }

    /// Accepts the next connection, or throws when the listener was shut down.
    public func accept() throws(StreamError) -> StreamSocket {
        while true {
            let accepted = Glibc.accept(descriptor, nil, nil)
            if accepted >= 0 {
                _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
                let socket = StreamSocket(descriptor: accepted, keepsMessages: keepsMessages)
                try socket.limitBlocking(seconds: Self.mostSecondsBlocked)
                return socket
            }
            if errno != EINTR { throw .system(call: "accept", code: errno) }
        }
    }

    /// Sends end of stream; what the peer sends can still be read.
    public func finishSending() throws(StreamError) {
        guard shutdown(descriptor, Int32(SHUT_WR)) == 0 else {
            throw .system(call: "shutdown", code: errno)
        }
    }

    /// Wakes and fails every call that is blocked on the socket.
    public func interrupt() {
        _ = shutdown(descriptor, Int32(SHUT_RDWR))
    }

    /// Limits how long one read or write may block.
    public func limitBlocking(seconds: Int) throws(StreamError) {
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            var limit = timeval(tv_sec: seconds, tv_usec: 0)
            let length = socklen_t(MemoryLayout<timeval>.size)
            // SAFETY: the kernel copies `length` bytes out of `limit` during the call.
            guard unsafe setsockopt(descriptor, SOL_SOCKET, option, &limit, length) == 0 else {
                throw .system(call: "setsockopt", code: errno)
            }
        }
    }
}

/// Reading and writing.
extension StreamSocket {
    /// Writes the first `wordCount` words.
    func write(_ words: [UInt64], wordCount: Int) throws(StreamError) {
        // SAFETY: the array's storage lives through the closure, and `send` is told its bound.
        let failure = unsafe words.withUnsafeBytes { bytes in
            unsafe sendAll(UnsafeRawBufferPointer(rebasing: bytes[..<(wordCount * 8)]))
        }
        if let failure { throw failure }
    }

    public func write(_ text: String) throws(StreamError) {
        let bytes = Array(text.utf8)
        // SAFETY: as above.
        let failure = unsafe bytes.withUnsafeBytes { unsafe sendAll($0) }
        if let failure { throw failure }
    }

    private func sendAll(_ bytes: UnsafeRawBufferPointer) -> StreamError? {
        var sent = 0
        while sent < bytes.count {
            // SAFETY: `sent` is below the buffer's count, and the length is what is left of it.
            let count = unsafe send(
                descriptor, bytes.baseAddress?.advanced(by: sent), bytes.count - sent,
                Int32(MSG_NOSIGNAL))
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { return .system(call: "send", code: errno) }
            sent += count
        }
        return nil
    }

    /// Reads until `words` holds `wordCount` words or the stream ends, and returns the bytes read.
    func read(into words: inout [UInt64], wordCount: Int) throws(StreamError) -> Int {
        // SAFETY: the array's storage lives through the closure; the range is checked by the slice.
        let outcome = unsafe words.withUnsafeMutableBytes { bytes in
            unsafe receiveAll(UnsafeMutableRawBufferPointer(rebasing: bytes[..<(wordCount * 8)]))
        }
        return try outcome.get()
    }

    private func receiveAll(_ bytes: UnsafeMutableRawBufferPointer) -> Result<Int, StreamError> {
        var received = 0
        while received < bytes.count {
            // SAFETY: `received` is below the buffer's count, and the length is what is left of it.
            let count = unsafe recv(
                descriptor, bytes.baseAddress?.advanced(by: received), bytes.count - received, 0)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { return .failure(.system(call: "recv", code: errno)) }
            if count == 0 { break }
            received += count
        }
        return .success(received)
    }

    /// Reads up to and without the next newline, one byte at a time so as to take nothing after it.
    public func readLine() throws(StreamError) -> String {
        if keepsMessages { return try readMessageLine() }
        var line: [UInt8] = []
        while true {
            var byte: UInt8 = 0
            // SAFETY: one byte is read into one byte.
            let count = unsafe recv(descriptor, &byte, 1, 0)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw .system(call: "recv", code: errno) }
            guard count == 1 else {
                let start = String(decoding: line, as: UTF8.self)
                throw .endOfStream(expected: "the end of the line \"\(start)\"")
            }
            if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
            line.append(byte)
        }
    }

    /// Reads a message that is a line.
    private func readMessageLine() throws(StreamError) -> String {
        var bytes = [UInt8](repeating: 0, count: 256)
        // SAFETY: at most as many bytes are read as the array has.
        let count = unsafe recv(descriptor, &bytes, bytes.count, 0)
        guard count >= 0 else { throw .system(call: "recv", code: errno) }
        guard count > 0, bytes[count - 1] == UInt8(ascii: "\n") else {
            throw .endOfStream(expected: "a message that is a line")
        }
        return String(decoding: bytes[..<(count - 1)], as: UTF8.self)
    }

    /// Writes back what one read brings; false at end of stream.
    func returnWhatArrives(through words: inout [UInt64]) throws(StreamError) -> Bool {
        // SAFETY: the array's storage lives through the closure; a read returns at most its count.
        let outcome: Result<Bool, StreamError> = unsafe words.withUnsafeMutableBytes { bytes in
            let count = unsafe recv(descriptor, bytes.baseAddress, bytes.count, 0)
            if count < 0 && errno == EINTR { return .success(true) }
            guard count >= 0 else { return .failure(.system(call: "recv", code: errno)) }
            let failure = unsafe sendAll(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
            return failure.map { .failure($0) } ?? .success(count > 0)
        }
        return try outcome.get()
    }

    /// Whether the peer sent end of stream and nothing before it.
    public func isAtEnd() throws(StreamError) -> Bool {
        var word: [UInt64] = [0]
        return try read(into: &word, wordCount: 1) == 0
    }
}
