// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import Synchronization
import SystemPackage
import Testing

@Suite("A mailbox")
struct MailboxTests {
    @Test("opens letters of other threads on the loop's thread, in order")
    func order() throws {
        let loop = try EventLoop()
        let mailbox = loop.mailbox
        let log = Mutex<[Int]>([])
        let isLoopThread = Mutex(true)
        let loopThread = pthread_self()
        let sender = try startThread(name: "sender") {
            for number in 0..<1000 {
                mailbox.post {
                    log.withLock { $0.append(number) }
                    if pthread_equal(pthread_self(), loopThread) == 0 {
                        isLoopThread.withLock { $0 = false }
                    }
                }
            }
        }
        while log.withLock({ $0.count }) < 1000 { try loop.turn(waitingAtMost: .seconds(10)) }
        joinThread(sender)
        #expect(log.withLock { $0 } == Array(0..<1000))
        #expect(isLoopThread.withLock { $0 })
    }

    @Test("opens a letter that a letter posts")
    func nested() throws {
        let loop = try EventLoop()
        let mailbox = loop.mailbox
        let count = Mutex(0)
        mailbox.post { mailbox.post { count.withLock { $0 += 1 } } }
        while count.withLock({ $0 }) == 0 { try loop.turn(waitingAtMost: .seconds(10)) }
        #expect(count.withLock { $0 } == 1)
    }
}

@Suite("A loop thread")
struct LoopThreadTests {
    private final class Root {
        let loop: EventLoop
        let thread = pthread_self()
        private let onEnd: @Sendable (Bool) -> Void

        init(_ loop: EventLoop, onEnd: @escaping @Sendable (Bool) -> Void = { _ in }) {
            self.loop = loop
            self.onEnd = onEnd
        }

        deinit {
            onEnd(pthread_equal(pthread_self(), thread) != 0)
        }
    }

    @Test("makes, uses and ends its root on its own thread")
    func rootThread() throws {
        let ends = Mutex<[Bool]>([])
        let uses = Mutex<[Bool]>([])
        let thread = try LoopThread(name: "test") { loop in
            Root(loop) { isOwn in ends.withLock { $0.append(isOwn) } }
        }
        for _ in 0..<10 {
            thread.post { root in
                let isOwn = pthread_equal(pthread_self(), root.thread) != 0
                uses.withLock { $0.append(isOwn) }
            }
        }
        thread.stopAndJoin()
        thread.stopAndJoin()
        #expect(uses.withLock { $0 } == Array(repeating: true, count: 10))
        #expect(ends.withLock { $0 } == [true])
    }

    @Test("throws what making the root throws, when its thread has ended")
    func startFailure() throws {
        for _ in 0..<50 {
            #expect(throws: Errno.addressInUse) {
                _ = try LoopThread<Int>(name: "test") { _ in throw Errno.addressInUse }
            }
        }
        #expect(try threadNames().contains("loop-fails") == false)
        #expect(throws: Errno.addressInUse) {
            _ = try LoopThread<Int>(name: "loop-fails") { _ in throw Errno.addressInUse }
        }
        #expect(try threadNames().contains("loop-fails") == false)
    }

    @Test("is not kept by counters that their other side has made blocking, and filled")
    func stall() throws {
        let results = Mutex<[Bool]>([])
        let thread = try LoopThread(name: "test") { loop in Root(loop) }
        for _ in 0..<2 {
            let counter = try EventCounter()
            let number = counter.descriptor.rawValue
            let flags = fcntl(number, F_GETFL)
            try #require(fcntl(number, F_SETFL, flags & ~O_NONBLOCK) == 0)
            // As high as the counter goes.
            var most: UInt64 = 0xFFFF_FFFF_FFFF_FFFE
            try #require(unsafe write(number, &most, 8) == 8)
            let hangs = Hanging(counter)
            thread.post { _ in
                // The second one in the same turn.
                for _ in 0..<2 {
                    let result = hangs.counter.signal()
                    results.withLock { $0.append(result) }
                }
            }
        }
        thread.stopAndJoin()
        #expect(results.withLock { $0 } == [false, false, false, false])
    }

    private final class Hanging: Sendable {
        let counter: EventCounter

        init(_ counter: consuming EventCounter) { self.counter = counter }
    }

    @Test("lets go of what is registered with its loop, though that keeps the loop")
    func cycle() throws {
        let isGone = Mutex(false)
        let counter = try EventCounter()
        let number = counter.descriptor.rawValue
        let thread = try LoopThread(name: "test") { loop in
            let root = HandlingRoot(loop) { isGone.withLock { $0 = true } }
            try loop.add(number, interest: .readable, handler: root)
            loop.setTimer(after: .seconds(3600), handler: root)
            return root
        }
        thread.stopAndJoin()
        #expect(isGone.withLock { $0 })
    }

    private final class HandlingRoot: EventHandler, TimerHandler {
        private let loop: EventLoop
        private let onEnd: @Sendable () -> Void

        init(_ loop: EventLoop, onEnd: @escaping @Sendable () -> Void) {
            self.loop = loop
            self.onEnd = onEnd
        }

        deinit { onEnd() }
        func descriptorReady(_ readiness: Readiness, tag: Int) {}
        func timerFired(tag: Int) {}
    }

    @Test("has the name that it was given, cut at 15 bytes")
    func name() throws {
        let thread = try LoopThread(name: "a-name-of-sixteen") { Root($0) }
        #expect(try threadNames().contains("a-name-of-sixte"))
        thread.stopAndJoin()
    }

    /// What the kernel calls the threads of this process.
    private func threadNames() throws -> Set<String> {
        var names: Set<String> = []
        guard let folder = unsafe opendir("/proc/self/task") else { return [] }
        defer { unsafe _ = closedir(folder) }
        while let entry = unsafe readdir(folder) {
            let number = unsafe withUnsafeBytes(of: &entry.pointee.d_name) {
                unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            let path = "/proc/self/task/\(number)/comm"
            let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { continue }
            let file = OwnedDescriptor(taking: descriptor)
            var text = [UInt8](repeating: 0, count: 32)
            let count = unsafe text.withUnsafeMutableBytes {
                unsafe read(file.rawValue, $0.baseAddress, $0.count)
            }
            names.insert(String(decoding: text.prefix(max(0, count - 1)), as: UTF8.self))
        }
        return names
    }

    @Test("leaves signals from outside to the main thread and faults to itself")
    func signals() throws {
        let blocked = Mutex<[Int32: Bool]>([:])
        let thread = try LoopThread(name: "test") { loop in
            var mask = sigset_t()
            unsafe pthread_sigmask(SIG_SETMASK, nil, &mask)
            for signal in [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGSEGV, SIGBUS, SIGILL] {
                let isBlocked = unsafe sigismember(&mask, signal) == 1
                blocked.withLock { $0[signal] = isBlocked }
            }
            return Root(loop)
        }
        thread.stopAndJoin()
        #expect(
            blocked.withLock { $0 } == [
                SIGTERM: true, SIGINT: true, SIGHUP: true, SIGUSR1: true, SIGSEGV: false,
                SIGBUS: false, SIGILL: false,
            ])
    }
}

@Suite("A worker pool")
struct WorkerPoolTests {
    @Test("does every job that it was given before it stops")
    func drains() throws {
        let pool = try WorkerPool(name: "test", threadCount: 3)
        let done = Atomic(0)
        for _ in 0..<5000 { pool.submit { done.add(1, ordering: .relaxed) } }
        pool.stopAndJoin()
        #expect(done.load(ordering: .relaxed) == 5000)
        pool.stopAndJoin()
    }

    @Test("does jobs at the same time on its threads")
    func parallel() throws {
        let pool = try WorkerPool(name: "test", threadCount: 2)
        let there = Atomic(0)
        // Each of the two jobs waits until the other one is there, too.
        for _ in 0..<2 {
            pool.submit {
                there.add(1, ordering: .sequentiallyConsistent)
                while there.load(ordering: .sequentiallyConsistent) < 2 { sched_yield() }
            }
        }
        pool.stopAndJoin()
        #expect(there.load(ordering: .relaxed) == 2)
    }

    @Test("starts a job with no thread but a single one in order")
    func order() throws {
        let pool = try WorkerPool(name: "test", threadCount: 0)
        let log = Mutex<[Int]>([])
        for number in 0..<3000 { pool.submit { log.withLock { $0.append(number) } } }
        pool.stopAndJoin()
        #expect(log.withLock { $0 } == Array(0..<3000))
    }

    @Test("does the jobs of every lane although those of others hang")
    func lanes() throws {
        let pool = try WorkerPool(name: "test", threadCount: 2)
        let isOver = Atomic(false)
        let hanging = Atomic(0)
        let done = Atomic(0)
        for lane in [pool.makeLane(), pool.makeLane(limit: 1)] {
            for _ in 0..<5 {
                pool.submit(in: lane) {
                    hanging.add(1, ordering: .sequentiallyConsistent)
                    while !isOver.load(ordering: .sequentiallyConsistent) { sched_yield() }
                }
            }
        }
        for _ in 0..<3 {
            let lane = pool.makeLane()
            for _ in 0..<100 {
                pool.submit(in: lane) { done.add(1, ordering: .sequentiallyConsistent) }
            }
        }
        while done.load(ordering: .sequentiallyConsistent) < 300 { sched_yield() }
        // As many as the pool had threads, and as the other lane may have.
        while hanging.load(ordering: .sequentiallyConsistent) < 3 { sched_yield() }
        isOver.store(true, ordering: .sequentiallyConsistent)
        pool.stopAndJoin()
        #expect(hanging.load(ordering: .relaxed) == 10)
    }

    @Test("has a thread for the next lane, though the last free one has a job that hangs")
    func lastThread() throws {
        for _ in 0..<100 {
            let pool = try WorkerPool(name: "test", threadCount: 2)
            let isOver = Atomic(false)
            let isDone = Atomic(false)
            let hanging = pool.makeLane()
            let other = pool.makeLane()
            let hang: @Sendable () -> Void = {
                while !isOver.load(ordering: .sequentiallyConsistent) { sched_yield() }
            }
            for _ in 0..<2 { pool.submit(in: hanging, hang) }
            pool.submit(in: other) { isDone.store(true, ordering: .sequentiallyConsistent) }
            while !isDone.load(ordering: .sequentiallyConsistent) { sched_yield() }
            isOver.store(true, ordering: .sequentiallyConsistent)
            pool.stopAndJoin()
        }
    }

    @Test("does the jobs of a lane that has one at a time in order")
    func narrowLane() throws {
        let pool = try WorkerPool(name: "test", threadCount: 3)
        let lane = pool.makeLane(limit: 1)
        let log = Mutex<[Int]>([])
        let underWay = Atomic(0)
        for number in 0..<2000 {
            pool.submit(in: lane) {
                #expect(underWay.add(1, ordering: .relaxed).newValue == 1)
                log.withLock { $0.append(number) }
                underWay.subtract(1, ordering: .relaxed)
            }
            pool.submit {}
        }
        pool.stopAndJoin()
        #expect(log.withLock { $0 } == Array(0..<2000))
    }
}

@Suite("A completion port")
struct CompletionPortTests {
    private final class Listener: CompletionHandler {
        private(set) var results: [UInt64: Int] = [:]
        private let thread = pthread_self()

        func workCompleted(token: UInt64, result: Int) {
            #expect(pthread_equal(pthread_self(), thread) != 0)
            #expect(results[token] == nil)
            results[token] = result
        }
    }

    @Test("brings every result back to the loop's thread, once, with its token")
    func results() throws {
        let loop = try EventLoop()
        let pool = try WorkerPool(name: "test", threadCount: 2)
        let listener = Listener()
        let port = try CompletionPort(loop: loop, pool: pool, handler: listener)
        for token in 0..<1000 as Range<UInt64> { port.submit(token: token) { Int(token) * 3 } }
        while listener.results.count < 1000 { try loop.turn(waitingAtMost: .seconds(10)) }
        pool.stopAndJoin()
        #expect(listener.results.allSatisfy { $0.value == Int($0.key) * 3 })
    }

    @Test("says nothing after it was closed, or has gone, with jobs under way")
    func closed() throws {
        let loop = try EventLoop()
        let pool = try WorkerPool(name: "test", threadCount: 1)
        let listener = Listener()
        let closed = try CompletionPort(loop: loop, pool: pool, handler: listener)
        var gone: CompletionPort? = try CompletionPort(loop: loop, pool: pool, handler: listener)
        let gate = Mutex(false)
        for port in [closed, gone] {
            port?.submit(token: 1) {
                while !gate.withLock({ $0 }) { sched_yield() }
                return 1
            }
        }
        closed.close(loop: loop)
        gone = nil
        gate.withLock { $0 = true }
        pool.stopAndJoin()
        for _ in 0..<3 { try loop.turn(waitingAtMost: .zero) }
        #expect(listener.results.isEmpty)
    }

    @Test("keeps neither its handler nor, when both go, the loop")
    func lifetime() throws {
        let pool = try WorkerPool(name: "test", threadCount: 1)
        weak var listener: Listener?
        weak var loop: EventLoop?
        do {
            let strongLoop = try EventLoop()
            loop = strongLoop
            let strongListener = Listener()
            listener = strongListener
            let port = try CompletionPort(
                loop: strongLoop, pool: pool, handler: strongListener)
            port.submit(token: 1) { 1 }
        }
        pool.stopAndJoin()
        #expect(listener == nil)
        #expect(loop == nil)
    }
}
