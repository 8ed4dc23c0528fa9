// SPDX-License-Identifier: Apache-2.0

import FileBackstore
import LinuxIO
import Synchronization

/// What lies behind a disk, opened; any thread may open it.
final class OpenedDisk: Sendable {
    /// What is kept of the disk, where something is.
    let kept: DiskStateFile.Opened?
    private let file: Mutex<DiskFile?>

    /// Opens it.
    ///
    /// - Parameters:
    ///   - configuration: of a unit that has a file.
    ///   - locks: false to leave the file to who has it until the guest starts.
    /// - Throws: why the file cannot be a disk.
    init(_ configuration: LUNConfiguration, locks: Bool = true) throws {
        let disk = configuration.disk
        let opened = try DiskFile(
            path: configuration.path, readOnly: configuration.isReadOnly,
            isShared: disk.isShared, blockSize: configuration.blockSize, locks: locks)
        kept = try disk.reservationsPath.map {
            try DiskStateFile.Opened(
                path: $0, isShared: disk.isShared, disk: opened.identity)
        }
        if disk.isShared, let kept { try opened.agree(onPlace: kept.file.identity) }
        file = Mutex(opened)
    }

    /// The file, which can be taken once.
    func takeFile() -> DiskFile {
        guard let taken = file.withLock({ $0.take() }) else {
            preconditionFailure("a file that was opened is taken once")
        }
        return taken
    }
}

/// Disks that are opened while a guest runs: by worker threads, because a medium may take its time.
///
/// Lives on its device's thread.
final class OpeningDisks: CompletionHandler {
    typealias Outcome = Result<OpenedDisk, any Error>

    /// How it ended, on its way from the worker.
    private final class Job: Sendable {
        let outcome = Mutex<Outcome?>(nil)

        func run(_ configuration: LUNConfiguration) -> Int {
            let result = Result { try OpenedDisk(configuration) }
            outcome.withLock { $0 = result }
            return 0
        }
    }

    private struct Opening {
        let place: UnitPlace
        let job: Job
        let whenDone: (Outcome) -> Void
    }

    private var port: CompletionPort?
    private let workers: WorkerPool
    private var openings: [UInt64: Opening] = [:]
    private var last: UInt64 = 0

    init(loop: EventLoop, workers: WorkerPool) throws {
        self.workers = workers
        port = try CompletionPort(loop: loop, pool: workers, handler: self)
    }

    /// Places that are taken already.
    var places: [UnitPlace] { openings.values.map(\.place) }

    /// Has a worker open what lies behind a disk.
    func open(_ configuration: LUNConfiguration, whenDone: @escaping (Outcome) -> Void) {
        let job = Job()
        last += 1
        openings[last] = Opening(
            place: UnitPlace(target: configuration.target, lun: configuration.lun),
            job: job, whenDone: whenDone)
        port?.submit(token: last, in: workers.makeLane()) { job.run(configuration) }
    }

    func workCompleted(token: UInt64, result: Int) {
        guard let opening = openings.removeValue(forKey: token),
            let outcome = opening.job.outcome.withLock({ $0 })
        else { return }
        opening.whenDone(outcome)
    }
}
