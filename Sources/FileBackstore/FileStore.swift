// SPDX-License-Identifier: Apache-2.0

public import BlockStorage
import Glibc
import LinuxIO
import Logging
import SystemPackage

/// A disk's blocks in a regular file or on a block device.
///
/// Bytes move between the medium and the pieces of a request past the page cache where the file
/// allows it (O_DIRECT), else through the cache on worker threads. A store that was opened for
/// writing has its file for itself, unless it shares it with others that say so too.
///
/// Once a flush has failed, every later one fails too: the kernel reports a lost page to one
/// flush only, and the next one would promise what is not so. Opening the file again starts anew.
@safe public final class FileStore: BlockStore {
    /// How bytes move.
    public enum Transfer: Equatable, Sendable {
        /// Past the page cache, by kernel AIO.
        case direct
        /// Past the page cache, on worker threads: the host is short of AIO requests.
        case directOnWorkers
        /// Through the page cache, on worker threads.
        case buffered
    }

    /// The file's name, for messages.
    public let path: String
    public let isReadOnly: Bool
    public var geometry: BlockGeometry { state.value.geometry }
    /// How bytes move.
    public var transfer: Transfer {
        if alignment == nil { return .buffered }
        return context.kernelRequestCount > 0 ? .direct : .directOnWorkers
    }

    private let context: AIOContext
    private var descriptor: SharedDescriptor?
    let descriptorNumber: Int32
    let isBlockDevice: Bool
    /// Whether requests may touch the file; the same for all of its stores.
    let possession: Possession
    /// Whether another loop's store locks the file and lets it go.
    let isTwin: Bool
    /// What the kernel asks of transfers; nil when they go through the page cache.
    let alignment: DirectAlignment?
    let lane: AIORequest.Lane
    /// Where its jobs wait for worker threads.
    let workerLane: WorkerLane
    let state: Cell<State>

    /// What changes while the store is open.
    struct State {
        var geometry: BlockGeometry
        /// Whether writes are tried without waiting first, which on a file may be for space.
        var refusesToWait: Bool
        /// Requests that have not ended.
        var requestCount = 0
        /// Those of them that have a slot of the context, and those that wait for one.
        var slotCount = 0
        var waiting = WaitingRequests()
        /// Bounce buffers that its requests have.
        var bounceCount = 0
        var isClosed = false
        var hasFailedToFlush = false
        /// When the next failure may be logged.
        var nextLog = Instant(nanoseconds: 0)
    }

    /// Opens a file or a block device, and locks it.
    ///
    /// - Parameters:
    ///   - path: the name of a regular file or a block device.
    ///   - readOnly: whether writes are refused; others may then read the file too.
    ///   - blockSize: 512 or 4096 bytes; nil for what the medium has, 512 for a file.
    ///   - context: the way to the kernel, of the loop that uses the store.
    /// - Throws: why the file cannot be a disk.
    public convenience init(
        path: String, readOnly: Bool = false, blockSize: Int? = nil, context: AIOContext
    ) throws(FileStoreError) {
        self.init(
            try DiskFile(path: path, readOnly: readOnly, blockSize: blockSize), context: context)
    }

    /// Makes a store of a file that was opened before.
    ///
    /// - Parameters:
    ///   - file: what lies behind it.
    ///   - context: the way to the kernel, of the loop that uses the store.
    public init(_ file: consuming DiskFile, context: AIOContext) {
        let measured = file.geometry
        path = file.path
        isReadOnly = file.isReadOnly
        isBlockDevice = measured.isBlockDevice
        possession = Possession(isExclusive: file.isExclusive, isHeld: file.isLocked)
        isTwin = false
        alignment = measured.direct
        lane = measured.direct == nil ? .workers : .kernel
        workerLane = context.port.makeLane()
        state = Cell(State(geometry: measured.blocks, refusesToWait: !measured.isBlockDevice))
        descriptorNumber = file.file.descriptor.rawValue
        descriptor = SharedDescriptor(file.takeDescriptor())
        self.context = context
        context.attach(self)
    }

    /// What another loop needs for a store of its own on the same medium; nil when this one is closed.
    public var twin: FileStoreTwin? {
        guard let descriptor else { return nil }
        return FileStoreTwin(
            path: path, isReadOnly: isReadOnly, geometry: geometry, isBlockDevice: isBlockDevice,
            alignment: alignment, descriptor: descriptor, possession: possession,
            workerLane: workerLane)
    }

    /// Makes a store for another loop on the medium of a store.
    ///
    /// It takes every block for one of the medium's: whoever submits to it knows the size.
    public init(_ twin: FileStoreTwin, context: AIOContext) {
        path = twin.path
        isReadOnly = twin.isReadOnly
        isBlockDevice = twin.isBlockDevice
        possession = twin.possession
        isTwin = true
        alignment = twin.alignment
        lane = twin.alignment == nil ? .workers : .kernel
        workerLane = twin.workerLane
        var geometry = twin.geometry
        geometry.blockCount = UInt64(Int64.max) / UInt64(geometry.blockSize)
        state = Cell(State(geometry: geometry, refusesToWait: !twin.isBlockDevice))
        descriptorNumber = twin.descriptor.owned.rawValue
        descriptor = twin.descriptor
        self.context = context
        context.attach(self)
    }

    public func submit(_ request: BlockRequest, owner: any BlockRequestOwner, token: UInt64) {
        context.submit(request, store: self, owner: OwnerReference(owner), token: token)
    }

    /// Ends the store after the requests that are under way; called once.
    ///
    /// Later requests end with `gone`. The file is unlocked and closed with the last request.
    public func close() {
        state.value.isClosed = true
        if state.value.requestCount == 0 { release() }
    }

    /// Looks how big the file is now.
    ///
    /// A part of a block at the end does not count.
    ///
    /// - Returns: whether the block count has changed.
    /// - Throws: `system` when the size cannot be read.
    @discardableResult
    public func refreshSize() throws(FileStoreError) -> Bool {
        let byteCount: UInt64
        do throws(Errno) {
            byteCount = try FileGeometry.byteCount(
                of: descriptorNumber, isBlockDevice: isBlockDevice)
        } catch {
            throw .system(path: path, operation: "read its size", error)
        }
        let blockCount = byteCount / UInt64(geometry.blockSize)
        if blockCount == geometry.blockCount { return false }
        state.value.geometry.blockCount = blockCount
        return true
    }
}

// MARK: For the context

extension FileStore {
    /// Why a request ends before the kernel sees it; nil when it does not.
    func refusal(of request: BlockRequest) -> BlockOutcome? {
        if !isLocked && !locksNow() { return .busy }
        if request.operation == .flush {
            if state.value.hasFailedToFlush { return .mediumError(goodByteCount: 0) }
            return isReadOnly ? .done : nil
        }
        let onlyLooks = request.operation == .read || request.operation == .locate
        if isReadOnly && !onlyLooks { return .unsupported }
        if request.operation == .discard && geometry.discardGranularity == 0 {
            return .unsupported
        }
        return refusal(ofRange: request)
    }

    private func refusal(ofRange request: BlockRequest) -> BlockOutcome? {
        let mask = UInt64(geometry.blockSize - 1)
        precondition(
            (request.offset | UInt64(bitPattern: Int64(request.byteCount))) & mask == 0,
            "a request begins and ends at the border of a block")
        let (end, overflow) = request.offset.addingReportingOverflow(UInt64(request.byteCount))
        let (size, _) = geometry.blockCount.multipliedReportingOverflow(
            by: UInt64(geometry.blockSize))
        if overflow || end > size { return .outOfRange }
        return request.byteCount == 0 ? .done : nil
    }

    /// Remembers what a failure says about later requests.
    func noteFailure(
        of operation: BlockRequest.Operation, _ outcome: BlockOutcome, errno code: Int32
    ) {
        logFailure(of: operation, errno: code)
        switch operation {
        case .flush:
            // "Not now" has lost nothing.
            if outcome != .busy { state.value.hasFailedToFlush = true }
        case .write(isDurable: true):
            // It ends in a flush of its own, which may have heard of other writes' loss.
            if case .mediumError = outcome { state.value.hasFailedToFlush = true }
        case .write, .read, .discard, .writeZeroes, .locate:
            break
        }
    }

    /// Logs one failure a second: a guest can cause as many as it likes.
    private func logFailure(of operation: BlockRequest.Operation, errno code: Int32) {
        log("I/O failed", ["operation": "\(operation)", "errno": "\(code)"])
    }

    func log(_ message: Logger.Message, _ metadata: Logger.Metadata) {
        let now = context.loop.now
        guard now >= state.value.nextLog else { return }
        state.value.nextLog = now.advanced(byNanoseconds: 1_000_000_000)
        context.logger.error(
            message, metadata: metadata.merging(["path": "\(path)"]) { one, _ in one })
    }

    /// A request has ended and its owner knows.
    func requestEnded() {
        state.value.requestCount &-= 1
        if state.value.isClosed && state.value.requestCount == 0 { release() }
    }

    private func release() {
        descriptor = nil
        context.detach(self)
    }
}
