// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage

/// Puts messages together from a stream, however it is cut.
///
/// Header and payload are read apart, each no further than its end, so that the descriptors that
/// a call returns belong to the bytes that it returns: only those that come with a header's first
/// byte are a message's.
struct MessageReader {
    /// What one step came to.
    enum Step {
        case message(Message)
        /// Part of a message is here, and more may be waiting.
        case progress
        /// There is no more for now.
        case wouldBlock
        /// The front-end has gone, between two messages.
        case endOfFile
    }

    private var headerBytes: [UInt8] = []
    private var header: MessageHeader?
    private var payload: [UInt8] = []
    private var descriptors = ReceivedDescriptors()

    /// Receives once.
    ///
    /// - Throws: what makes the stream unusable; then the connection has to be closed.
    mutating func step(
        _ socket: borrowing OwnedDescriptor
    ) throws(VhostUserError) -> Step {
        guard let header else { return try readHeader(socket) }
        switch try receive(header.payloadByteCount - payload.count, socket) {
        case .bytes(let bytes, let received):
            guard received.count == 0 else { throw .strayDescriptors }
            payload += bytes
            return payload.count == header.payloadByteCount ? .message(finish(header)) : .progress
        case .wouldBlock: return .wouldBlock
        case .endOfFile: throw .endInsideMessage
        }
    }

    private mutating func readHeader(
        _ socket: borrowing OwnedDescriptor
    ) throws(VhostUserError) -> Step {
        switch try receive(MessageHeader.byteCount - headerBytes.count, socket) {
        case .bytes(let bytes, let received):
            if headerBytes.isEmpty {
                descriptors = received
            } else if received.count > 0 {
                throw .strayDescriptors
            }
            headerBytes += bytes
        case .wouldBlock: return .wouldBlock
        case .endOfFile:
            guard headerBytes.isEmpty else { throw .endInsideMessage }
            return .endOfFile
        }
        guard headerBytes.count == MessageHeader.byteCount else { return .progress }
        let complete = try MessageHeader(headerBytes)
        guard complete.payloadByteCount > 0 else { return .message(finish(complete)) }
        header = complete
        return .progress
    }

    private mutating func finish(_ header: MessageHeader) -> Message {
        let message = Message(header: header, payload: payload, descriptors: descriptors)
        self = MessageReader()
        return message
    }

    private enum Received {
        case bytes(ArraySlice<UInt8>, ReceivedDescriptors)
        case wouldBlock
        case endOfFile
    }

    private func receive(
        _ byteCount: Int, _ socket: borrowing OwnedDescriptor
    ) throws(VhostUserError) -> Received {
        do throws(Errno) {
            let (result, bytes, received) = try UnixSocket.receive(from: socket, upTo: byteCount)
            switch result {
            case .bytes: return .bytes(bytes, received)
            case .wouldBlock: return .wouldBlock
            case .endOfFile: return .endOfFile
            }
        } catch {
            // A reset connection is one whose front-end was killed.
            if error == .messageTooLong { throw .tooManyDescriptors }
            return .endOfFile
        }
    }
}
