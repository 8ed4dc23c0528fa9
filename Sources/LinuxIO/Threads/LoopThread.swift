// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Synchronization
import SystemPackage

/// A thread that runs one event loop and owns one object on it.
///
/// The object (a device with its session) is made on the thread, lives there, and dies there;
/// other threads reach it by posting work to it.
public final class LoopThread<Root>: Sendable {
    private let mailbox: Mailbox
    private let cell: RootCell<Root>
    private let thread: Mutex<pthread_t?>

    /// Starts a thread, and waits until `build` has made the root object on it.
    ///
    /// - Parameters:
    ///   - name: what the kernel shows for the thread, at most 15 bytes.
    ///   - build: makes the object that lives on the loop.
    /// - Throws: what `build` throws, or the errno of making the thread or the loop.
    public init(
        name: String, _ build: @escaping @Sendable (EventLoop) throws -> Root
    ) throws {
        let cell = RootCell<Root>()
        let started = StartGate()
        let handle = try startThread(name: name) {
            do {
                let loop = try EventLoop()
                loop.endStalls()
                cell.loop = loop
                cell.root = try build(loop)
                started.open(.success(loop.mailbox))
            } catch {
                started.open(.failure(error))
            }
            if cell.root != nil { cell.turn() }
            cell.empty()
        }
        do {
            mailbox = try started.wait()
        } catch {
            joinThread(handle)
            throw error
        }
        self.cell = cell
        thread = Mutex(handle)
    }

    /// Has the work done on the thread, with the root object.
    public func post(_ work: @escaping @Sendable (Root) -> Void) {
        mailbox.post { [cell] in
            if let root = cell.root { work(root) }
        }
    }

    /// Ends the loop after its present turn and waits until the thread is gone.
    public func stopAndJoin() {
        mailbox.post { [cell] in cell.loop?.stop() }
        let handle = thread.withLock { thread in
            let taken = thread
            thread = nil
            return taken
        }
        if let handle { joinThread(handle) }
    }
}

/// Holds what lives on the loop's thread.
///
/// SAFETY: `root` and `loop` are touched by the loop's own thread only: by the thread's body, and
/// by letters, which the loop opens on that thread. The compiler cannot see that.
private final class RootCell<Root>: @unchecked Sendable {
    var root: Root?
    var loop: EventLoop?

    /// Turns the loop until it is stopped.
    func turn() {
        do throws(Errno) {
            try loop?.run()
        } catch {
            // The descriptors that epoll_wait gets are the loop's own.
            preconditionFailure("an event loop can wait: \(error)")
        }
    }

    /// Ends what lives on the thread, on the thread.
    func empty() {
        root = nil
        loop?.removeEverything()
        loop = nil
    }
}

/// Lets one thread wait until another has started.
private final class StartGate: Sendable {
    private let outcome = Mutex<Result<Mailbox, any Error>?>(nil)
    private let counter: OneShot

    init() {
        counter = OneShot()
    }

    func open(_ result: Result<Mailbox, any Error>) {
        let first = outcome.withLock { outcome in
            if outcome != nil { return false }
            outcome = result
            return true
        }
        if first { counter.fire() }
    }

    func wait() throws -> Mailbox {
        counter.wait()
        return try outcome.withLock { outcome in
            guard let outcome else { throw Errno.invalidArgument }
            return try outcome.get()
        }
    }
}
