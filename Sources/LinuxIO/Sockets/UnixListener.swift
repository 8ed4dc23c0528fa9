// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// A listening Unix socket and, when it made one, its name in the file system.
///
/// The name is removed when the listener goes, if it is still the one that the listener made.
///
/// Belongs to one thread at a time, whichever made it.
public final class UnixListener {
    /// Why a listener could not be made.
    public enum Failure: Error, Equatable, CustomStringConvertible {
        /// Somebody answers at the path.
        case inUse(path: String)
        /// The path names something else than a socket.
        case notASocket(path: String)
        /// A system call failed.
        case system(path: String, operation: String, Errno)

        /// Where nobody can listen.
        public var path: String {
            switch self {
            case .inUse(let path), .notASocket(let path), .system(let path, _, _): path
            }
        }

        public var description: String {
            switch self {
            case .inUse(let path):
                "\(path): another process listens there; stop it or choose another path"
            case .notASocket(let path):
                "\(path): exists and is not a socket; remove it or choose another path"
            case .system(let path, let operation, let error):
                "\(path): \(operation): \(error)"
            }
        }
    }

    private let descriptor: OwnedDescriptor
    private let ownedPath: String?
    private let identity: FileIdentity?

    /// Binds and listens at a path.
    ///
    /// A socket that nobody answers any more is replaced.
    ///
    /// The corresponding C functions are `socket`, `bind` and `listen`.
    ///
    /// - Parameters:
    ///   - address: where to bind.
    ///   - kind: of connection.
    ///   - backlog: connections that may wait.
    ///   - permissions: who may connect; nil for what the umask leaves.
    /// - Throws: why nobody can connect there.
    public init(
        _ address: UnixAddress, kind: SocketKind = .stream, backlog: Int32 = 128,
        permissions: UInt32? = nil
    ) throws(Failure) {
        try Self.removeStale(address, kind: kind)
        var operation = "socket"
        do throws(Errno) {
            let socket = try UnixSocket.make(kind)
            operation = "bind"
            // SAFETY: bind reads `size` bytes of the address.
            try unsafe address.withSocketAddress { pointer, size throws(Errno) in
                _ = try systemCall { unsafe bind(socket.rawValue, pointer, size) }
            }
            descriptor = socket
            ownedPath = address.path
            identity = FileIdentity(path: address.path)
            // From here on the name goes with the listener, however this ends.
            if let permissions {
                operation = "chmod"
                // SAFETY: the path is passed as a C string for the length of the call. Nobody can
                // connect before `listen`.
                try systemCall { unsafe chmod(address.path, mode_t(permissions)) }
            }
            operation = "listen"
            let number = descriptor.rawValue
            try systemCall { listen(number, backlog) }
        } catch {
            throw .system(path: address.path, operation: operation, error)
        }
    }

    /// Takes over a socket that listens already (socket activation); its name is not ours.
    public init(taking descriptor: consuming OwnedDescriptor) {
        self.descriptor = descriptor
        ownedPath = nil
        identity = nil
    }

    deinit {
        guard let ownedPath, let identity, FileIdentity(path: ownedPath) == identity else { return }
        // SAFETY: the path is passed as a C string for the length of the call.
        _ = unsafe unlink(ownedPath)
    }

    /// For the event loop: readable when somebody wants to connect.
    public var descriptorNumber: Int32 { descriptor.rawValue }

    /// Takes the next connection, nonblocking and close-on-exec; nil when nobody waits.
    ///
    /// The corresponding C function is `accept4`.
    ///
    /// - Throws: `tooManyOpenFiles` and its like, after which the listener stays readable: the
    ///   caller has to look away for a while. A connection that is gone already is passed over.
    public func accept() throws(Errno) -> OwnedDescriptor? {
        while true {
            do {
                let number = descriptor.rawValue
                return OwnedDescriptor(taking: try systemCall { cl_accept4(number) })
            } catch .wouldBlock {
                return nil
            } catch .connectionAbort {
                continue
            } catch {
                throw error
            }
        }
    }

    private static func removeStale(
        _ address: UnixAddress, kind: SocketKind
    ) throws(Failure) {
        guard let existing = FileIdentity(path: address.path) else { return }
        guard existing.isSocket else { throw .notASocket(path: address.path) }
        do throws(Errno) {
            _ = try UnixSocket.connect(to: address, kind: kind)
        } catch {
            switch error {
            case .connectionRefused:
                // SAFETY: the path is passed as a C string for the length of the call.
                _ = unsafe unlink(address.path)
                return
            case .noSuchFileOrDirectory:
                return
            case .wouldBlock, .protocolWrongTypeForSocket:
                // Somebody listens, and is busy or of the other kind.
                break
            default:
                throw .system(path: address.path, operation: "connect", error)
            }
        }
        throw .inUse(path: address.path)
    }
}

/// What tells one file from another under the same name.
struct FileIdentity: Equatable {
    let device: UInt64
    let inode: UInt64
    let isSocket: Bool

    /// Nil when there is no such file.
    init?(path: String) {
        var status = stat()
        // SAFETY: lstat fills the one local that it is given.
        guard unsafe lstat(path, &status) == 0 else { return nil }
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        isSocket = status.st_mode & S_IFMT == S_IFSOCK
    }
}
