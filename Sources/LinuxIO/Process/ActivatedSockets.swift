// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Sockets that the service manager has opened for this process (sd_listen_fds(3)).
public enum ActivatedSockets {
    /// The first number that the service manager passes.
    private static let firstDescriptor: Int32 = 3
    /// More are a mistake, not a service.
    private static let limit: Int32 = 256

    /// Takes the sockets over, once: they are closed on exec from now on, and no child is told.
    ///
    /// The corresponding C functions are `getenv`, `unsetenv` and `fcntl`.
    ///
    /// - Returns: the descriptors by their names; none when they are meant for another process.
    public static func take() -> [String: Int32] {
        let process = ProcessEnvironment.variable("LISTEN_PID")
        let count = ProcessEnvironment.variable("LISTEN_FDS").flatMap { Int32($0) } ?? 0
        let names = ProcessEnvironment.variable("LISTEN_FDNAMES") ?? ""
        for variable in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            // SAFETY: the name is passed as a C string; no other thread runs yet.
            _ = unsafe unsetenv(variable)
        }
        guard process == "\(getpid())", (1...limit).contains(count) else { return [:] }
        var sockets: [String: Int32] = [:]
        let list = names.split(separator: ":", omittingEmptySubsequences: false)
        for (number, name) in zip(firstDescriptor..<firstDescriptor + count, list) {
            _ = fcntl(number, F_SETFD, FD_CLOEXEC)
            sockets[String(name)] = number
        }
        return sockets
    }
}
