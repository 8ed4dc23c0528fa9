// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SCSI
import Synchronization
import SystemPackage

/// A file that a disk's reservations and saved mode parameters are kept in, by one service or by all
/// that share the disk.
///
/// Lives on its device's thread; what waits for the file is done on worker threads.
final class DiskStateFile: DiskStateKeeper {
    /// Bytes of more registrations than anybody makes.
    private static let limit = 4 << 20

    /// Why a file cannot be used.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// A file that was opened, and what was in it; any thread may open one.
    struct Opened: Sendable {
        let file: LockedFile
        let state: OpenedDiskState
        let isShared: Bool

        /// - Parameters:
        ///   - path: of the file.
        ///   - isShared: whether other services have the disk and the file, too.
        ///   - disk: a number of the disk that the file is about.
        /// - Throws: `Failure` when another service or disk has the file, or it cannot be used.
        init(path: String, isShared: Bool, disk: UInt64) throws {
            var taken: LockedFile?
            do {
                state = try OpenedDiskState { change in
                    let file = try LockedFile(
                        path: path, isShared: isShared, subject: disk,
                        limit: DiskStateFile.limit, opening: change)
                    taken = file
                    return file.openingCount
                }
            } catch Errno.resourceTemporarilyUnavailable {
                throw Failure(description: Self.refusal(path: path, isShared: isShared))
            } catch Errno.fileExists {
                throw Failure(
                    description: "reservations=\(path): another disk's reservations are kept "
                        + "there; each disk needs a file of its own")
            } catch {
                throw Failure(description: "reservations=\(path): \(error)")
            }
            guard let taken else { throw Failure(description: "reservations=\(path): not opened") }
            file = taken
            self.isShared = isShared
        }

        private static func refusal(path: String, isShared: Bool) -> String {
            "reservations=\(path): another process keeps reservations there"
                + (isShared
                    ? ", and does not share them"
                    : "; services share a disk when each has it with shared and the same file here")
        }
    }

    let isShared: Bool
    private let file: LockedFile
    private let port: CompletionPort
    private let lane: WorkerLane
    private let logger = Logger(label: "scsi")
    private let receiver = Receiver()

    /// Keeps what was opened, for a disk of the loop.
    ///
    /// - Throws: the errno of making a descriptor.
    init(_ opened: Opened, loop: EventLoop, workers: WorkerPool) throws(Errno) {
        file = opened.file
        isShared = opened.isShared
        // One after the other, so that changes are made in their order.
        lane = workers.makeLane(limit: 1)
        port = try CompletionPort(loop: loop, pool: workers, handler: receiver)
    }

    var changes: SharedCounter { file.changes }

    func exchange(
        _ change: @escaping @Sendable (_ bytes: [UInt8]?) -> [UInt8]?,
        whenDone: @escaping (UInt64?) -> Void
    ) {
        let job = Job(file: file, change: change)
        let token = receiver.expect(job) { [logger, path = file.path] outcome in
            do throws(Errno) {
                whenDone(try outcome.get())
            } catch {
                logger.error(
                    "reservations not kept", metadata: ["path": "\(path)", "reason": "\(error)"])
                whenDone(nil)
            }
        }
        port.submit(token: token, in: lane) { job.run() }
    }

    /// One exchange on its way to a worker thread and back.
    private final class Job: Sendable {
        private let file: LockedFile
        private let change: @Sendable ([UInt8]?) -> [UInt8]?
        private let outcome = Mutex<Result<UInt64, Errno>>(.failure(.canceled))

        init(file: LockedFile, change: @escaping @Sendable ([UInt8]?) -> [UInt8]?) {
            self.file = file
            self.change = change
        }

        func run() -> Int {
            let result = Result { () throws(Errno) in try file.exchange(change) }
            outcome.withLock { $0 = result }
            return 0
        }

        var result: Result<UInt64, Errno> { outcome.withLock { $0 } }
    }

    /// Knows who waits for which exchange; on the device's thread.
    private final class Receiver: CompletionHandler {
        private var waiting: [UInt64: (Job, (Result<UInt64, Errno>) -> Void)] = [:]
        private var last: UInt64 = 0

        func expect(_ job: Job, _ body: @escaping (Result<UInt64, Errno>) -> Void) -> UInt64 {
            last += 1
            waiting[last] = (job, body)
            return last
        }

        func workCompleted(token: UInt64, result: Int) {
            guard let (job, body) = waiting.removeValue(forKey: token) else { return }
            body(job.result)
        }
    }
}
