// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import Synchronization

/// Turns a portal's name into an address, on a worker thread: the library's own look-up would stop
/// the loop.
final class PortalResolver {
    /// Who asked; takes itself away before it goes.
    var session: BorrowedReference<ISCSISession>?

    private let loop: EventLoop
    private let pool: WorkerPool
    private var port: CompletionPort?
    private var question: UInt64 = 0
    private var pending: ResolverResult?

    init(loop: EventLoop, pool: WorkerPool) {
        self.loop = loop
        self.pool = pool
    }

    /// Whether the host is an address already.
    ///
    /// The corresponding C function is `inet_pton`.
    static func isNumeric(_ host: String) -> Bool {
        var buffer = in6_addr()
        // SAFETY: both families fit into the local that is written.
        return unsafe inet_pton(AF_INET, host, &buffer) == 1
            || inet_pton(AF_INET6, host, &buffer) == 1
    }

    /// Looks a name up; the session is told in a later turn.
    ///
    /// - Returns: false when the loop has no descriptor left for it.
    func resolve(_ portal: ISCSIPortal) -> Bool {
        if port == nil { port = try? CompletionPort(loop: loop, pool: pool, handler: self) }
        guard let port else { return false }
        question += 1
        let result = ResolverResult(portal: portal)
        pending = result
        port.submit(token: question) { result.lookUp() }
        return true
    }

    /// Forgets a question that is under way.
    func cancel() {
        question += 1
        pending = nil
    }

    /// Ends for good.
    func close() {
        cancel()
        port?.close(loop: loop)
        port = nil
    }
}

extension PortalResolver: CompletionHandler {
    func workCompleted(token: UInt64, result: Int) {
        guard token == question, let answer = pending else { return }
        pending = nil
        session?.with { $0.portalResolved(answer.address, reason: answer.reason) }
    }
}

/// One question and its answer.
///
/// Written by a worker thread, read on the loop that it is posted to.
private final class ResolverResult: Sendable {
    private let portal: ISCSIPortal
    private let outcome = Mutex<(address: String?, reason: String)>((nil, ""))

    init(portal: ISCSIPortal) {
        self.portal = portal
    }

    /// The numeric portal.
    var address: String? { outcome.withLock { $0.address } }
    var reason: String { outcome.withLock { $0.reason } }

    /// Asks the system; blocks.
    ///
    /// The corresponding C function is `getaddrinfo`.
    func lookUp() -> Int {
        // SAFETY: the hints are a local of zeroes and numbers.
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        // SAFETY: the list is freed after the first address was written out as text.
        let code = unsafe getaddrinfo(portal.host, nil, &hints, &list)
        guard code == 0, let first = unsafe list else {
            let reason = unsafe gai_strerror(code).map { unsafe String(cString: $0) }
            outcome.withLock { $0.reason = reason ?? "error \(code)" }
            return 0
        }
        let host = unsafe Self.numeric(first)
        unsafe freeaddrinfo(list)
        let address = host.map { ISCSIPortal(host: $0, port: portal.port).description }
        outcome.withLock { $0 = (address, "no IPv4 or IPv6 address") }
        return 1
    }

    private static func numeric(_ entry: UnsafeMutablePointer<addrinfo>) -> String? {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(NI_MAXHOST)) { text in
            // SAFETY: getnameinfo writes at most the capacity, with a NUL.
            let code = unsafe getnameinfo(
                entry.pointee.ai_addr, entry.pointee.ai_addrlen, text.baseAddress,
                socklen_t(text.count), nil, 0, NI_NUMERICHOST)
            guard code == 0, let start = text.baseAddress else { return nil }
            return unsafe String(cString: start)
        }
    }
}
