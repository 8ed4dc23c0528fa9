// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

/// `exercise disk DEVICE MIB TRANSFERS THREADS SEED`: a bounded run that ends in "disk ok".
func runDiskExercise(_ arguments: [String]) throws {
    guard arguments.count == 5 else { throw UsageError() }
    let mebibytes: Int = try number(arguments[1])
    let transfers: Int = try number(arguments[2])
    let threads: Int = try number(arguments[3])
    let seed: UInt64 = try number(arguments[4])
    let sectorsPerThread = mebibytes * 2048 / threads
    let failures = runThreads(threads) { thread in
        var disk = try DiskExercise(
            path: arguments[0], firstSector: thread * sectorsPerThread,
            sectorCount: sectorsPerThread, seed: seed &+ UInt64(thread) << 32)
        for _ in 0..<(transfers / threads) { try disk.transferSomewhere() }
        try disk.flush()
        try disk.checkEverything()
        disk.finish()
    }
    if let failure = failures.first { throw failure }
    print("disk ok: \(transfers) transfers by \(threads) threads over \(mebibytes) MiB")
}

/// `exercise disk-load DEVICE MIB THREADS`: transfers until the guest ends; says "disk busy" once
/// every thread has completed some.
func runDiskLoad(_ arguments: [String]) throws {
    guard arguments.count == 3 else { throw UsageError() }
    let mebibytes: Int = try number(arguments[1])
    let threads: Int = try number(arguments[2])
    let sectorsPerThread = mebibytes * 2048 / threads
    let busyThreads = Atomic<Int>(0)
    let failures = runThreads(threads) { thread in
        var disk = try DiskExercise(
            path: arguments[0], firstSector: thread * sectorsPerThread,
            sectorCount: sectorsPerThread, seed: UInt64(thread) << 32)
        while true {
            try disk.transferSomewhere()
            guard disk.transferCount == 4 else { continue }
            if busyThreads.add(1, ordering: .relaxed).newValue == threads {
                print("disk busy")
                fflush(nil)
            }
        }
    }
    if let failure = failures.first { throw failure }
}

/// Runs `body` on `count` threads and returns what they threw once all have ended.
private func runThreads(
    _ count: Int, _ body: @escaping @Sendable (Int) throws -> Void
) -> [any Error & Sendable] {
    let ended = Mutex((count: 0, failures: [any Error & Sendable]()))
    for thread in 0..<count {
        detachThread {
            var failure: (any Error & Sendable)?
            do { try body(thread) } catch { failure = error }
            ended.withLock { ended in
                ended.count += 1
                if let failure { ended.failures.append(failure) }
            }
        }
    }
    while ended.withLock({ $0.count < count }) { usleep(10_000) }
    return ended.withLock { $0.failures }
}
