// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage

/// The way back: what the back-end says to the front-end of its own accord (vhost-user, "Back-end
/// message types").
///
/// No message asks for a reply, so that a front-end that never reads cannot hold anything up: QEMU
/// answers a change of the configuration by reading it on the main socket first.
///
/// Lives on its device's thread.
final class BackEndChannel {
    /// What the back-end can say.
    enum Code: UInt32 {
        /// VHOST_USER_BACKEND_CONFIG_CHANGE_MSG.
        case configurationChange = 2
    }

    private let descriptor: OwnedDescriptor
    private let kind: DescriptorKind

    /// Takes over a socket, or the writing end of a pipe.
    init(taking descriptor: consuming OwnedDescriptor) throws(Errno) {
        kind = try descriptor.kind()
        try descriptor.setNonblocking()
        self.descriptor = descriptor
    }

    /// Sends a message without a payload.
    ///
    /// - Returns: false when there is no room for it now.
    /// - Throws: the errno of a channel that is of no use any more.
    func send(_ code: Code) throws(Errno) -> Bool {
        let bytes = MessageHeader.message(
            request: code.rawValue, flags: MessageHeader.version, payload: [])
        let result =
            kind == .socket
            ? try UnixSocket.send(bytes, to: descriptor)
            : try descriptor.writeBytes(bytes)
        return result != .wouldBlock
    }
}
