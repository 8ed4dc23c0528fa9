// SPDX-License-Identifier: Apache-2.0

import Synchronization
public import SystemPackage

/// A file that a thread of its own writes, from its start to its end: whoever has something to write
/// never waits for the file.
///
/// What the file has not taken yet is kept in memory; the owner asks `waitingByteCount` before it
/// adds to that. Belongs to one thread, whichever made it.
public final class FileWriter {
    /// What both threads know of.
    private final class Progress: Sendable {
        let file: Mutex<OutputFile>
        let state = Mutex(State())

        init(_ file: sending OutputFile) {
            self.file = Mutex(file)
        }

        /// Writes and notes the outcome; on the writer's thread.
        func write(_ bytes: [UInt8]) {
            var failure: Errno?
            if state.withLock({ $0.failure }) == nil {
                do throws(Errno) {
                    try file.withLock { file throws(Errno) in try file.write(bytes) }
                } catch {
                    failure = error
                }
            }
            state.withLock {
                $0.waitingByteCount -= bytes.count
                $0.failure = $0.failure ?? failure
            }
        }
    }

    private struct State {
        var waitingByteCount = 0
        var failure: Errno?
    }

    private let progress: Progress
    private let worker: WorkerPool

    /// Makes the file, or empties it, and starts the thread.
    ///
    /// - Parameters:
    ///   - path: of the file; its owner alone may read and write it.
    ///   - start: see `OutputFile`.
    ///   - threadName: what the kernel shows for the thread, at most 15 bytes.
    /// - Throws: the errno of opening the file, or of making the thread; EEXIST for a file that is not to
    ///   be emptied.
    public init(path: String, replacing start: [UInt8], threadName: String) throws(Errno) {
        progress = Progress(try OutputFile(path: path, replacing: start))
        worker = try WorkerPool(name: threadName, threadCount: 1)
    }

    deinit {
        finish()
    }

    /// Bytes that the file has not taken yet.
    public var waitingByteCount: Int { progress.state.withLock { $0.waitingByteCount } }

    /// Why the file takes no more; nil while it does.
    public var failure: Errno? { progress.state.withLock { $0.failure } }

    /// Has bytes written behind those before; after `finish`, or once the file has failed, they are
    /// forgotten.
    public func write(_ bytes: [UInt8]) {
        progress.state.withLock { $0.waitingByteCount += bytes.count }
        worker.submit { [progress] in progress.write(bytes) }
    }

    /// Waits until everything is written, and ends the thread.
    public func finish() {
        worker.stopAndJoin()
    }
}
