// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// Counts what a store is asked to do, and holds back what goes beyond its limits.
///
/// A request that no limit holds back is passed on with its own owner, so that its end takes no
/// detour. Requests that are held back go on in the order in which they came; so does every later
/// one as long as one waits. What moves no bytes (flush, locate) is never held back.
///
/// It belongs to the store's loop and thread.
public final class MeteredStore: BlockStore {
    /// Of so many reads and writes one is timed, so that the others cost no clock.
    private static let sampleInterval: UInt64 = 16

    /// What does the work.
    public let store: any BlockStore
    private let loop: EventLoop
    private let state = Cell(State())

    private struct State {
        var figures = StoreFigures()
        var limits = StoreLimits()
        var isLimited = false
        var operations: TokenBucket?
        var bytes: TokenBucket?
        /// Held back, from `first` on.
        var waiting: [Request] = []
        var first = 0
        var timer: TimerToken?
        /// The request that is being timed.
        var sample: Sample?

        var hasWaiting: Bool { first < waiting.count }
    }

    private struct Request {
        let request: BlockRequest
        let owner: any BlockRequestOwner
        let token: UInt64
    }

    private struct Sample {
        let owner: any BlockRequestOwner
        let token: UInt64
        let start: Instant
    }

    /// Meters a store.
    ///
    /// - Parameters:
    ///   - store: nobody else submits to it.
    ///   - loop: the store's.
    public init(_ store: any BlockStore, loop: EventLoop) {
        self.store = store
        self.loop = loop
    }

    public var geometry: BlockGeometry { store.geometry }
    public var isReadOnly: Bool { store.isReadOnly }

    /// What was asked so far.
    public var figures: StoreFigures { state.value.figures }

    /// Requests that wait because of a limit.
    public var waitingCount: Int { state.value.waiting.count - state.value.first }

    /// What may be asked; buckets start full, and what waits goes on by the new limits.
    public var limits: StoreLimits {
        get { state.value.limits }
        set {
            let now = loop.now
            state.value.limits = newValue
            state.value.operations = newValue.operationsPerSecond.map {
                TokenBucket(perSecond: $0, burst: newValue.operationBurst, now: now)
            }
            state.value.bytes = newValue.bytesPerSecond.map {
                TokenBucket(perSecond: $0, burst: newValue.byteBurst, now: now)
            }
            state.value.isLimited = state.value.operations != nil || state.value.bytes != nil
            // It was set by the old limits.
            cancelTimer()
            resume()
        }
    }

    // MARK: Requests

    @inline(__always)
    public func submit(_ request: BlockRequest, owner: any BlockRequestOwner, token: UInt64) {
        count(request)
        if state.value.isLimited { return admit(request, owner: owner, token: token) }
        pass(request, owner: owner, token: token)
    }

    @inline(__always)
    private func count(_ request: BlockRequest) {
        let byteCount = UInt64(truncatingIfNeeded: request.byteCount)
        switch request.operation {
        case .read:
            state.value.figures.readCount &+= 1
            state.value.figures.readByteCount &+= byteCount
        case .write:
            state.value.figures.writeCount &+= 1
            state.value.figures.writtenByteCount &+= byteCount
        case .flush: state.value.figures.flushCount &+= 1
        case .discard, .writeZeroes: state.value.figures.discardCount &+= 1
        case .locate: break
        }
    }

    @inline(__always)
    private func pass(_ request: BlockRequest, owner: any BlockRequestOwner, token: UInt64) {
        let done = state.value.figures.readCount &+ state.value.figures.writeCount
        if done & (Self.sampleInterval - 1) == 1, state.value.sample == nil {
            return time(request, owner: owner, token: token)
        }
        store.submit(request, owner: owner, token: token)
    }

    @inline(never)
    private func time(_ request: BlockRequest, owner: any BlockRequestOwner, token: UInt64) {
        switch request.operation {
        case .read, .write:
            state.value.sample = Sample(owner: owner, token: token, start: loop.now)
            store.submit(request, owner: self, token: token)
        case .flush, .discard, .writeZeroes, .locate:
            store.submit(request, owner: owner, token: token)
        }
    }

    // MARK: Limits

    @inline(never)
    private func admit(_ request: BlockRequest, owner: any BlockRequestOwner, token: UInt64) {
        guard Self.isLimitable(request) else {
            return store.submit(request, owner: owner, token: token)
        }
        if !state.value.hasWaiting {
            fillBuckets()
            if takeTokens(request) { return pass(request, owner: owner, token: token) }
        }
        state.value.figures.delayedCount += 1
        state.value.waiting.append(Request(request: request, owner: owner, token: token))
        setTimer()
    }

    private static func isLimitable(_ request: BlockRequest) -> Bool {
        switch request.operation {
        case .read, .write, .discard, .writeZeroes: true
        case .flush, .locate: false
        }
    }

    /// Bytes that count: what only frees or clears moves none.
    private static func movedByteCount(_ request: BlockRequest) -> Double {
        switch request.operation {
        case .read, .write: Double(request.byteCount)
        case .discard, .writeZeroes, .flush, .locate: 0
        }
    }

    private func fillBuckets() {
        let now = loop.now
        state.value.operations?.fill(now: now)
        state.value.bytes?.fill(now: now)
    }

    /// Takes what a request costs out of the buckets, or nothing when one does not allow it.
    private func takeTokens(_ request: BlockRequest) -> Bool {
        let byteCount = Self.movedByteCount(request)
        guard state.value.operations?.allows(1) ?? true,
            byteCount == 0 || state.value.bytes?.allows(byteCount) ?? true
        else { return false }
        state.value.operations?.take(1)
        state.value.bytes?.take(byteCount)
        return true
    }

    /// Passes on what has waited long enough.
    private func resume() {
        fillBuckets()
        while state.value.hasWaiting {
            let next = state.value.waiting[state.value.first]
            guard !state.value.isLimited || takeTokens(next.request) else { break }
            state.value.first += 1
            pass(next.request, owner: next.owner, token: next.token)
        }
        if !state.value.hasWaiting {
            state.value.waiting.removeAll(keepingCapacity: true)
            state.value.first = 0
        } else if state.value.first > 256 {
            state.value.waiting.removeFirst(state.value.first)
            state.value.first = 0
        }
        setTimer()
    }

    private func setTimer() {
        guard state.value.timer == nil, state.value.hasWaiting else { return }
        let next = state.value.waiting[state.value.first].request
        let wait = max(
            state.value.operations?.wait(for: 1) ?? 0,
            state.value.bytes?.wait(for: Self.movedByteCount(next)) ?? 0)
        state.value.timer = loop.setTimer(
            after: .nanoseconds(Int64(min(wait, 3.6e12)) + 1), handler: self)
    }

    /// Passes everything on that waits, whatever the limits say: the queue that it came from stops.
    public func releaseWaiting() {
        let waiting = state.value.waiting[state.value.first...]
        state.value.waiting = []
        state.value.first = 0
        for next in waiting { pass(next.request, owner: next.owner, token: next.token) }
    }

    /// Passes on what waits, then ends the store.
    public func close() {
        releaseWaiting()
        cancelTimer()
        store.close()
    }

    private func cancelTimer() {
        if let timer = state.value.timer { loop.cancel(timer) }
        state.value.timer = nil
    }
}

extension MeteredStore: BlockRequestOwner {
    /// The request that was timed has ended.
    public func blockRequestEnded(token: UInt64, outcome: BlockOutcome) {
        guard let sample = state.value.sample else { return }
        state.value.sample = nil
        let elapsed = loop.now.nanoseconds - sample.start.nanoseconds
        state.value.figures.latency.add(microseconds: elapsed / 1000)
        sample.owner.blockRequestEnded(token: sample.token, outcome: outcome)
    }
}

extension MeteredStore: TimerHandler {
    /// The first request that was held back may go on.
    public func timerFired(tag: Int) {
        state.value.timer = nil
        resume()
    }
}
