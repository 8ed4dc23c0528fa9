// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// AF_VSOCK sockets of the kernel that this program runs on (vsock(7)).
///
/// None blocks. Once connected they are used as Unix sockets are.
public enum VsockSocket {
    /// VMADDR_CID_ANY: bind to every context identifier that the kernel has.
    public static let anyContext: UInt32 = 0xffff_ffff
    /// VMADDR_CID_LOCAL: this kernel itself, where it has the module vsock_loopback.
    public static let localContext: UInt32 = 1

    /// Begins to connect; `outcome` tells what became of it, once the socket is writable.
    ///
    /// The corresponding C functions are `socket` and `connect`.
    ///
    /// - Throws: `addressFamilyNotSupported` where there is no AF_VSOCK at all; `noSuchDevice` and
    ///   `networkUnreachable` where nothing leads to the context.
    public static func connect(
        to context: UInt32, port: UInt32, kind: SocketKind = .stream
    ) throws(Errno) -> OwnedDescriptor {
        OwnedDescriptor(
            taking: try systemCall { cl_vsock_connect(context, port, kind.rawValue) })
    }

    /// Listens.
    ///
    /// The corresponding C functions are `socket`, `bind` and `listen`.
    ///
    /// - Returns: what `UnixListener(taking:)` accepts from.
    /// - Throws: `addressFamilyNotSupported` as above; `addressInUse`; `addressNotAvailable` for a
    ///   context that the kernel has not; `permissionDenied` for a port below 1024.
    public static func listen(
        at context: UInt32, port: UInt32, kind: SocketKind = .stream, backlog: Int32 = 128
    ) throws(Errno) -> OwnedDescriptor {
        OwnedDescriptor(
            taking: try systemCall { cl_vsock_listen(context, port, kind.rawValue, backlog) })
    }

    /// Whether a connection has been made; false while that is still under way.
    ///
    /// The corresponding C functions are `getsockopt` with SO_ERROR, and `getpeername`.
    ///
    /// - Throws: why it has come to nothing.
    public static func isConnected(_ socket: borrowing OwnedDescriptor) throws(Errno) -> Bool {
        let number = socket.rawValue
        return try systemCall { cl_connection_outcome(number) } == 1
    }

    /// Whether the socket is one of AF_VSOCK whose peer takes no more bytes, or which may send none.
    ///
    /// When its peer has closed, a Unix socket reports that it hung up; one of AF_VSOCK reports the end of
    /// the peer's bytes, as if only that half were closed. To send no bytes sends nothing, and asks.
    ///
    /// The corresponding C functions are `getsockopt` with SO_DOMAIN, and `send`.
    public static func peerReadsNothing(_ socket: borrowing OwnedDescriptor) -> Bool {
        let number = socket.rawValue
        var family: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        // SAFETY: getsockopt fills the one integer, whose size it is told.
        guard unsafe getsockopt(number, SOL_SOCKET, SO_DOMAIN, &family, &length) == 0,
            family == AF_VSOCK
        else { return false }
        return send(number, nil, 0, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)) < 0
    }
}
