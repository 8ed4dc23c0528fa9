// SPDX-License-Identifier: Apache-2.0

import LinuxIO
public import SystemPackage

/// What a vsock device is made of.
public struct VsockOptions: Sendable {
    /// The guest's context identifier: not 0, 1, 2 or 0xffffffff, and no more than 32 bits.
    public var guestCID: UInt64
    /// Where clients on the host connect, and the start of the names of the sockets that the guest
    /// connects to: `<path>_<port>`.
    public var path: String

    /// Bytes of each connection that the guest may have under way to the host (buf_alloc): what a
    /// host that stops reading can leave here, at most twice (`HostboundCredit`).
    public var bufferByteCount: UInt32 = 256 * 1024
    /// Connections at once, closing ones included.
    public var connectionLimit = 4096
    /// Clients at once that have not named a port yet; one more displaces the oldest.
    public var handshakeLimit = 256
    /// How long a client may take to name a port.
    public var handshakeTimeout = Duration.seconds(5)
    /// How long the guest may take to answer, and a full listener on the host to make room.
    public var connectTimeout = Duration.seconds(2)
    /// How long the ports of a connection that the guest has not confirmed to be over are not used
    /// again: longer than the 8 s that Linux waits.
    public var closeTimeout = Duration.seconds(10)
    /// How long bytes wait for a reader on the host after the guest has closed.
    public var lingerTimeout = Duration.seconds(600)
    /// Connections at once that wait like that; one more displaces the oldest.
    public var lingerLimit = 1024

    /// How long bytes of a fast stream to the guest may gather in the host's socket, so that one
    /// read, one signal and one wake-up do for more of them; zero for never.
    public var rest = Duration.microseconds(80)

    /// Sockets where clients reach one port of the guest, without naming it: paths by port, or
    /// `vsock:CID:PORT` for an AF_VSOCK socket of the host's own kernel (CID `any` for all it has).
    public var listeners: [VsockPort: String] = [:]
    /// Where the guest reaches single ports of the host, instead of `<path>_<port>`: paths, or
    /// `vsock:CID:PORT`.
    ///
    /// What `VsockPort.any` leads to is for all ports that are not listed.
    public var services: [VsockPort: ServicePath] = [:]

    /// How AF_VSOCK sockets of the host are made.
    var hostVsock = HostVsock.kernel

    /// Which ports may be reached.
    public var ports = PortRules()
    /// How long a client waits for a guest that is not there, or does not listen yet; zero for not
    /// at all.
    public var waitForGuest = Duration.zero
    /// Where the services of other guests are found; nil when the guest has no siblings.
    public var siblings: SiblingOptions?
    /// Where every packet is written; nil when none is.
    public var capture: CaptureOptions?

    public init(guestCID: UInt64, path: String) {
        self.guestCID = guestCID
        self.path = path
    }

    /// Where the guest reaches a port of the host; nil for `<path>_<port>`.
    func service(at port: VsockPort) -> ServicePath? { services[port] ?? services[.any] }

    /// Bytes that a port adds to the path at most: `_4294967295`.
    static let portSuffixByteCount = 11
    /// What the path of the socket for messages ends in.
    static let messageSuffix = "_seqpacket"

    /// Checks what was given, without opening anything.
    ///
    /// - Throws: the first thing that is wrong.
    public func validate() throws(VsockError) {
        guard let cid = UInt32(exactly: guestCID), ContextID(rawValue: cid).isUsableByGuest else {
            throw .illegalContextID(guestCID)
        }
        let limit = UnixAddress.maximumByteCount - Self.portSuffixByteCount
        let length = path.utf8.count
        guard length <= limit else {
            throw .pathTooLong(path: path, byteCount: length, limit: limit)
        }
        guard UnixAddress(path: path) != nil else { throw .illegalPath(path) }
        for path in listeners.values { _ = try HostAddress(path) }
        for service in services.values { try service.validate() }
        try siblings?.validate()
        guard bufferByteCount >= 4096, bufferByteCount <= 1 << 30 else {
            throw .illegalBufferSize(bufferByteCount)
        }
        guard (1...65_536).contains(connectionLimit) else {
            throw .illegalConnectionLimit(connectionLimit)
        }
    }
}

/// The path of a service on the host, with `%c` for the guest's context identifier, `%p` for the port
/// and `%%` for a percent sign.
public struct ServicePath: Equatable, Sendable {
    /// As it was given.
    public let template: String

    public init(_ template: String) {
        self.template = template
    }

    func path(guest: ContextID, port: VsockPort) -> String {
        var path = ""
        var isEscaped = false
        for character in template {
            if isEscaped {
                switch character {
                case "c": path += "\(guest.rawValue)"
                case "p": path += "\(port.rawValue)"
                default: path.append(character)
                }
                isEscaped = false
            } else if character == "%" {
                isEscaped = true
            } else {
                path.append(character)
            }
        }
        return path
    }

    func validate() throws(VsockError) {
        let longest = path(guest: ContextID(rawValue: .max), port: .any)
        if HostAddress.isVsock(template) {
            guard case .vsock(let context, _) = try HostAddress(longest),
                context != VsockSocket.anyContext || template.contains("%c")
            else { throw .illegalHostAddress(template) }
        } else if UnixAddress(path: longest) == nil {
            throw .pathTooLong(
                path: template, byteCount: longest.utf8.count,
                limit: UnixAddress.maximumByteCount)
        }
    }
}

/// Why a vsock device cannot be made.
public enum VsockError: Error, Equatable, CustomStringConvertible {
    /// Not an identifier that a guest may have.
    case illegalContextID(UInt64)
    /// The path leaves no room for the port.
    case pathTooLong(path: String, byteCount: Int, limit: Int)
    /// The path is empty or has a zero byte.
    case illegalPath(String)
    /// The credit of a connection is out of range.
    case illegalBufferSize(UInt32)
    /// Not the name of a group.
    case illegalGroup(String)
    /// The file for packets cannot be written.
    case capture(path: String, reason: String)
    /// Not an AF_VSOCK address.
    case illegalHostAddress(String)
    /// The host has no such AF_VSOCK socket, or no AF_VSOCK at all.
    case hostVsock(address: String, reason: Errno)
    /// The number of connections is out of range.
    case illegalConnectionLimit(Int)
    /// The socket for clients on the host cannot be made.
    case listener(UnixListener.Failure)
    /// The event loop does not take the socket.
    case eventLoop(path: String, reason: String)

    public var description: String {
        switch self {
        case .illegalContextID(let identifier):
            """
            a guest cannot have the context identifier \(identifier): choose one from 3 to \
            4294967294
            """
        case .pathTooLong(let path, let byteCount, let limit):
            """
            \(path): the path has up to \(byteCount) bytes with what is added to it; it may have \
            1 to \(limit)
            """
        case .illegalPath:
            "the path of a vsock device must not be empty, nor hold a zero byte"
        case .illegalBufferSize(let byteCount):
            "a connection cannot have \(byteCount) bytes of credit: choose 4096 to 1073741824"
        case .illegalHostAddress(let address):
            "\(address): an AF_VSOCK socket of the host is written vsock:CID:PORT, as in vsock:1:22"
        case .hostVsock(let address, .addressFamilyNotSupported):
            """
            \(address): there are no AF_VSOCK sockets here: the kernel has no vsock, or the service's \
            sandbox forbids the address family
            """
        case .hostVsock(let address, let reason):
            "\(address): \(reason)"
        case .illegalConnectionLimit(let limit):
            "a vsock device cannot have \(limit) connections: choose 1 to 65536"
        case .illegalGroup(let group):
            "a group of guests cannot be named '\(group)': no blanks, slashes or dots"
        case .capture(let path, let reason):
            "\(path): packets cannot be captured there: \(reason)"
        case .listener(let failure):
            failure.description
        case .eventLoop(let path, let reason):
            "\(path): \(reason)"
        }
    }
}
