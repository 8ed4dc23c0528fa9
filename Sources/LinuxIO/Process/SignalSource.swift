// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// Who hears of signals.
public protocol SignalHandler: AnyObject {
    /// A signal has arrived. Called on the loop's thread.
    func signalArrived(_ number: Int32)
}

/// Turns signals into events of a loop.
///
/// The corresponding C function is `signalfd`.
public final class SignalSource: EventHandler {
    private let descriptor: OwnedDescriptor
    private weak var handler: (any SignalHandler)?

    /// Blocks the signals in the calling thread, the main one, before any other is started, and
    /// reports them to the handler.
    ///
    /// SIGPIPE is ignored throughout the process.
    ///
    /// - Parameters:
    ///   - signals: numbers as in signal(7).
    ///   - loop: where the handler is called.
    ///   - handler: held weakly.
    /// - Throws: the errno of signalfd or epoll_ctl.
    public init(_ signals: [Int32], loop: EventLoop, handler: any SignalHandler) throws(Errno) {
        // SAFETY: the signal set is a local that each call only reads or fills.
        var set = sigset_t()
        unsafe sigemptyset(&set)
        for number in signals { unsafe sigaddset(&set, number) }
        unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
        _ = signal(SIGPIPE, SIG_IGN)
        let flags = Int32(SFD_CLOEXEC) | Int32(SFD_NONBLOCK)
        descriptor = OwnedDescriptor(taking: try systemCall { unsafe signalfd(-1, &set, flags) })
        self.handler = handler
        try loop.add(descriptor.rawValue, interest: .readable, handler: self)
    }

    /// Reads what has arrived; called by the loop.
    public func descriptorReady(_ readiness: Readiness, tag: Int) {
        // SAFETY: read fills at most one signalfd_siginfo, a local.
        var information = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        while unsafe read(descriptor.rawValue, &information, size) == size {
            handler?.signalArrived(Int32(information.ssi_signo))
        }
    }
}
