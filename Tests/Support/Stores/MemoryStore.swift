// SPDX-License-Identifier: Apache-2.0

public import BlockStorage
public import LinuxIO
import Synchronization

/// A store in memory for tests: blocks that were never written cost nothing, and requests end when
/// the test says so, in the order that it likes, as it likes.
///
/// Nothing touches a request's pieces before the request ends.
public final class MemoryStore: BlockStore {
    public var geometry: BlockGeometry
    public let isReadOnly: Bool
    /// What the requests were, in the order of their coming.
    public private(set) var log: [BlockRequest] = []
    public private(set) var isClosed = false
    /// When set, asked for each request how it ends instead of being done.
    public var failure: ((BlockRequest) -> BlockOutcome?)?
    /// Whether requests wait for `endNext` and its like; else they end at the end of the turn, or,
    /// without a loop, when `endAll` is called.
    public var isHolding = false

    private struct Pending {
        let request: BlockRequest
        let owner: any BlockRequestOwner
        let token: UInt64
        /// Whether it came after the store was closed.
        let isLate: Bool
    }

    private var pending: [Pending] = []
    /// Where the blocks are.
    public let medium: Medium
    private let loop: EventLoop?
    public var isWorkDeferred = false

    public init(geometry: BlockGeometry, isReadOnly: Bool = false, loop: EventLoop? = nil) {
        self.geometry = geometry
        self.isReadOnly = isReadOnly
        self.loop = loop
        medium = Medium()
    }

    /// A store of another loop, on another thread perhaps, with the medium of a store.
    public init(on medium: Medium, geometry: BlockGeometry, loop: EventLoop?) {
        self.geometry = geometry
        isReadOnly = false
        self.loop = loop
        self.medium = medium
    }

    /// The blocks; any thread may touch them.
    public final class Medium: Sendable {
        fileprivate let blocks = Mutex<[UInt64: [UInt8]]>([:])
    }

    public func submit(_ request: BlockRequest, owner: any BlockRequestOwner, token: UInt64) {
        if let pieces = request.pieces {
            precondition(pieces.byteCount == request.byteCount, "the pieces are what is to move")
        }
        log.append(request)
        pending.append(
            Pending(request: request, owner: owner, token: token, isLate: isClosed))
        if !isHolding, let loop { loop.deferWork(self) }
    }

    public func close() {
        isClosed = true
    }

    // MARK: Ending requests

    public var pendingCount: Int { pending.count }

    /// Ends the request at a place of the queue.
    public func end(at index: Int = 0) {
        let request = pending.remove(at: index)
        let outcome =
            request.isLate ? .gone : failure?(request.request) ?? perform(request.request)
        request.owner.blockRequestEnded(token: request.token, outcome: outcome)
    }

    /// Ends every request, and those that come of it.
    public func endAll() {
        while !pending.isEmpty { end() }
    }

    // MARK: The medium

    /// The bytes of a block.
    public subscript(block: UInt64) -> [UInt8] {
        get {
            medium.blocks.withLock { $0[block] }
                ?? [UInt8](repeating: 0, count: geometry.blockSize)
        }
        set { medium.blocks.withLock { $0[block] = newValue } }
    }

    /// Blocks that take up memory: they were written and not freed.
    public var allocatedBlockCount: Int { medium.blocks.withLock { $0.count } }

    private func perform(_ request: BlockRequest) -> BlockOutcome {
        let size = UInt64(geometry.blockSize)
        let first = request.offset / size
        let count = UInt64(request.byteCount) / size
        guard request.offset % size == 0, UInt64(request.byteCount) % size == 0,
            first + count <= geometry.blockCount
        else { return .outOfRange }
        switch request.operation {
        case .read: read(first..<first + count, into: request.pieces)
        case .write: write(first..<first + count, from: request.pieces)
        case .flush: break
        case .locate: return locate(first..<first + count)
        case .discard, .writeZeroes:
            medium.blocks.withLock { blocks in
                for block in first..<first + count { blocks[block] = nil }
            }
        }
        return .done
    }

    private func locate(_ range: Range<UInt64>) -> BlockOutcome {
        let (isAllocated, end) = medium.blocks.withLock { blocks in
            let isAllocated = blocks[range.lowerBound] != nil
            let end = range.first { (blocks[$0] != nil) != isAllocated }
            return (isAllocated, end ?? range.upperBound)
        }
        return .located(
            isAllocated: isAllocated,
            byteCount: Int(end - range.lowerBound) * geometry.blockSize)
    }

    private func read(_ range: Range<UInt64>, into pieces: IOVectorSlice?) {
        for (index, block) in range.enumerated() {
            pieces?.store(
                self[block], byteCount: geometry.blockSize, at: index * geometry.blockSize)
        }
    }

    private func write(_ range: Range<UInt64>, from pieces: IOVectorSlice?) {
        for (index, block) in range.enumerated() {
            let bytes = pieces?.bytes(geometry.blockSize, from: index * geometry.blockSize)
            medium.blocks.withLock { $0[block] = bytes }
        }
    }
}

extension MemoryStore: DeferredWork {
    public func performDeferredWork() {
        if !isHolding { endAll() }
    }
}
