// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// The 12 bytes before every payload (vhost-user, "Header").
struct MessageHeader: Equatable {
    /// Bytes of a header.
    static let byteCount = 12
    /// Bytes that a payload may have; the largest legal one is far smaller.
    static let maximumPayloadByteCount = 4096

    /// Bits 0 and 1 of the flags, which hold the version: 1.
    static let version: UInt32 = 0x1
    /// VHOST_USER_REPLY_MASK.
    static let replyFlag: UInt32 = 0x4
    /// VHOST_USER_NEED_REPLY_MASK.
    static let needReplyFlag: UInt32 = 0x8

    let request: UInt32
    let flags: UInt32
    let payloadByteCount: Int

    /// Reads a header of a front-end.
    ///
    /// - Parameter bytes: `byteCount` of them.
    /// - Throws: what makes the stream unusable: after it no message can be found.
    init(_ bytes: [UInt8]) throws(VhostUserError) {
        var reader = PayloadReader(bytes)
        request = reader.readUInt32()
        flags = reader.readUInt32()
        let size = reader.readUInt32()
        guard flags & ~Self.needReplyFlag == Self.version else { throw .illegalFlags(flags) }
        guard size <= UInt32(Self.maximumPayloadByteCount) else {
            throw .payloadTooLong(byteCount: size)
        }
        payloadByteCount = Int(size)
    }

    /// Whether the front-end waits for an acknowledgement, once that has been negotiated.
    var needsReply: Bool { flags & Self.needReplyFlag != 0 }

    /// Lays out a message of ours.
    static func message(request: UInt32, flags: UInt32, payload: [UInt8]) -> [UInt8] {
        var writer = PayloadWriter()
        writer.append(request)
        writer.append(flags)
        writer.append(UInt32(payload.count))
        writer.append(payload)
        return writer.bytes
    }

    /// Lays out the reply to a request: its flags are the version and "reply", nothing else; QEMU
    /// and user-mode-linux insist on that.
    static func reply(to request: UInt32, payload: [UInt8]) -> [UInt8] {
        message(request: request, flags: version | replyFlag, payload: payload)
    }
}

/// A message as it came from the socket.
struct Message {
    let header: MessageHeader
    let payload: [UInt8]
    /// What came with the header's first byte.
    let descriptors: ReceivedDescriptors

    /// The name for the log.
    var name: String {
        RequestCode(rawValue: header.request).map { "\($0)" } ?? "request \(header.request)"
    }
}
