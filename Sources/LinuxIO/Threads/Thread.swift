// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Synchronization
public import SystemPackage

/// The body of a thread, on its way to it.
private final class ThreadBody {
    let name: String
    let run: @Sendable () -> Void

    init(name: String, run: @escaping @Sendable () -> Void) {
        self.name = name
        self.run = run
    }
}

/// Starts a thread with every signal blocked that comes from outside, so that those reach the main
/// thread only.
///
/// What a thread raises by its own fault is not blocked: a handler has to see it there.
///
/// The corresponding C function is `pthread_create`.
public func startThread(
    name: String, _ body: @escaping @Sendable () -> Void
) throws(Errno) -> pthread_t {
    // SAFETY: the body is retained for the thread, which takes over that one reference; the
    // attributes are the defaults; the signal sets are locals.
    let pointer = unsafe Unmanaged.passRetained(ThreadBody(name: name, run: body)).toOpaque()
    var thread = pthread_t()
    var all = sigset_t()
    var previous = sigset_t()
    unsafe sigfillset(&all)
    for fault in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS] {
        unsafe sigdelset(&all, fault)
    }
    unsafe pthread_sigmask(SIG_SETMASK, &all, &previous)
    let code = unsafe pthread_create(
        &thread, nil,
        { argument in
            guard let argument = unsafe argument else { return nil }
            let body = unsafe Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue()
            _ = unsafe cl_set_thread_name(String(body.name.utf8.prefix(15)) ?? "vhostd")
            body.run()
            return nil
        }, pointer)
    unsafe pthread_sigmask(SIG_SETMASK, &previous, nil)
    if code != 0 {
        unsafe Unmanaged<ThreadBody>.fromOpaque(pointer).release()
        throw Errno(rawValue: code)
    }
    return thread
}

/// Waits until a thread has ended.
///
/// The corresponding C function is `pthread_join`.
public func joinThread(_ thread: pthread_t) {
    _ = pthread_join(thread, nil)
}

/// A gate that opens once; a thread that waits blocks until then.
final class OneShot: Sendable {
    private let semaphore: SemaphoreStorage

    init() {
        semaphore = SemaphoreStorage()
    }

    func fire() { semaphore.post() }
    func wait() { semaphore.wait() }
}

/// A POSIX semaphore at a fixed address.
///
/// SAFETY: sem_post and sem_wait may be called by any thread; the storage is freed when the last
/// reference goes, which is after both sides are done with it.
@safe final class SemaphoreStorage: @unchecked Sendable {
    private let storage: UnsafeMutablePointer<sem_t>

    init(value: UInt32 = 0) {
        unsafe storage = .allocate(capacity: 1)
        unsafe sem_init(storage, 0, value)
    }

    deinit {
        unsafe sem_destroy(storage)
        unsafe storage.deallocate()
    }

    func post() {
        _ = unsafe sem_post(storage)
    }

    func wait() {
        while unsafe sem_wait(storage) != 0 {}
    }
}
