// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import CLibaio
import Glibc
public import LinuxIO
import Logging
public import SystemPackage

/// The way of every file store of one event loop to the kernel.
///
/// What the kernel can do without blocking goes through libaio: the requests of a turn of the loop,
/// whatever store they are for, are handed over in one system call at its end, and ended ones are
/// read from the ring that the kernel maps, when its eventfd has woken the loop. Nothing reads the
/// eventfd: it is watched for edges. The rest goes to worker threads: files that lie in memory or go
/// through the page cache, holes, zeroes, and everything when the host has no AIO requests left
/// (fs.aio-max-nr).
///
/// A request lives in a slot of a fixed table until it has ended. When the table is full, when the
/// bounce buffers are in use, or when the kernel has no room, requests wait in order.
///
/// The context and its stores belong to the loop's thread.
@safe public final class AIOContext {
    /// Requests under way at once, unless the host has room for fewer.
    public static let defaultRequestCount = 256
    private static let smallestRequestCount = 32
    private static let bounceBufferCount = 16

    let loop: EventLoop
    let kernel: any AIOKernel
    let calls: any BlockingCalls
    let logger = Logger(label: "vhostd.file")
    private let completed: EventCounter
    private let registration: Registration
    let port: CompletionPort
    let loopSide: LoopSide

    /// One slot a request under way.
    let requests: Slab<AIORequest>
    let state: Cell<State>
    /// The control blocks to hand over at the end of the turn.
    let batch: UnsafeMutablePointer<UnsafeMutablePointer<iocb>?>
    private var stores: [FileStore] = []

    /// Requests that the kernel takes at once; 0 when everything goes to the workers.
    public let kernelRequestCount: Int

    /// What changes with every request.
    struct State: ~Copyable {
        var freeSlots: RequestList
        var waiting = WaitingRequests()
        /// Ended before the kernel saw them; told at the end of the turn.
        var ended = RequestList()
        /// Ended by the kernel's refusal to take them.
        var refused = RequestList()
        var bounceWaiting = RequestList()
        var retrying = RequestList()
        var hasRetryTimer = false
        var bounce: BouncePool
        /// Control blocks in the batch.
        var batchCount = 0
        /// Requests that the kernel has taken and not ended.
        var countInKernel = 0
    }

    /// Registers with the loop for as long as it lives.
    ///
    /// - Parameters:
    ///   - loop: the loop whose thread uses the context.
    ///   - workers: for what blocks.
    ///   - requestCount: requests under way at once; the host's limit, fs.aio-max-nr, is shared by
    ///     every process on it.
    /// - Throws: the errno of making descriptors or reserving memory. That the host has no AIO
    ///   requests left is no error.
    public convenience init(
        loop: EventLoop, workers: WorkerPool, requestCount: Int = AIOContext.defaultRequestCount
    ) throws(Errno) {
        try self.init(
            loop: loop, workers: workers, requestCount: requestCount, kernel: LibaioKernel(),
            calls: SystemBlockingCalls())
    }

    package init(
        loop: EventLoop, workers: WorkerPool, requestCount: Int, kernel: any AIOKernel,
        calls: any BlockingCalls
    ) throws(Errno) {
        self.loop = loop
        self.kernel = kernel
        self.calls = calls
        let slots = Slab(count: requestCount) { _ in AIORequest() }
        var free = RequestList()
        for index in 0..<requestCount { free.append(index, in: slots) }
        requests = slots
        state = Cell(
            State(freeSlots: free, bounce: try BouncePool(count: Self.bounceBufferCount)))
        completed = try EventCounter()
        kernelRequestCount = Self.setUp(kernel, requestCount)
        loopSide = LoopSide()
        port = try CompletionPort(loop: loop, pool: workers, handler: loopSide)
        registration = try loop.add(
            completed.descriptor.rawValue, interest: [.readable, .edgeTriggered],
            handler: loopSide)
        unsafe batch = .allocate(capacity: requestCount)
        // SAFETY: cleared by deinit, so that the reference never outlives the context.
        unsafe loopSide.context = self
        if kernelRequestCount < requestCount { logShortage(requestCount) }
    }

    deinit {
        // SAFETY: nothing is under way: a store with requests keeps itself and the context.
        unsafe loopSide.context = nil
        loop.remove(registration)
        port.close(loop: loop)
        unsafe batch.deallocate()
    }

    /// Asks for fewer and fewer requests while the host has none left.
    private static func setUp(_ kernel: any AIOKernel, _ requestCount: Int) -> Int {
        var count = requestCount
        while count >= min(smallestRequestCount, requestCount) && count > 0 {
            if kernel.setUp(requestCount: count) == 0 { return count }
            count /= 2
        }
        return 0
    }

    private func logShortage(_ requestCount: Int) {
        logger.warning(
            "the host is short of AIO requests; raise fs.aio-max-nr",
            metadata: ["wanted": "\(requestCount)", "got": "\(kernelRequestCount)"])
    }

    /// The eventfd that the kernel signals.
    var eventDescriptor: Int32 { completed.descriptor.rawValue }

    // MARK: Stores

    /// Keeps a store alive until it has ended.
    func attach(_ store: FileStore) {
        stores.append(store)
    }

    /// Lets go of a store that has ended.
    func detach(_ store: FileStore) {
        stores.removeAll { $0 === store }
    }

    // MARK: Slots

    /// Queues a request of a store.
    func submit(
        _ request: BlockRequest, store: FileStore, owner: OwnerReference, token: UInt64
    ) {
        store.state.value.requestCount &+= 1
        let store = StoreReference(store)
        guard let index = state.value.freeSlots.removeFirst(in: requests) else {
            return waitForSlot(
                WaitingRequest(request: request, store: store, owner: owner, token: token))
        }
        fill(index, request, store: store, owner: owner, token: token)
        start(index)
    }

    @inline(never)
    private func waitForSlot(_ request: WaitingRequest) {
        state.value.waiting.append(request)
    }

    private func fill(
        _ index: Int, _ request: BlockRequest, store: StoreReference,
        owner: OwnerReference, token: UInt64
    ) {
        requests[index].store = store
        requests[index].owner = owner
        requests[index].token = token
        requests[index].request = request
        requests[index].doneByteCount = 0
        requests[index].attempts = 0
        requests[index].mustBounce = false
    }

    /// Frees the slot of a request that has ended, and starts the one that has waited longest.
    func vacate(_ index: Int) {
        requests[index].forget()
        if state.value.waiting.isEmpty {
            state.value.freeSlots.append(index, in: requests)
        } else {
            startWaiting(index)
        }
    }

    @inline(never)
    private func startWaiting(_ index: Int) {
        guard let next = state.value.waiting.removeFirst() else { return }
        fill(index, next.request, store: next.store, owner: next.owner, token: next.token)
        start(index)
    }
}

/// What the loop and the workers call, so that neither keeps the context alive.
///
/// SAFETY: the context clears the reference when it goes, on the thread that follows it.
@safe final class LoopSide: EventHandler, DeferredWork, TimerHandler, CompletionHandler {
    unowned(unsafe) var context: AIOContext?
    private let isDeferred = Cell(false)

    var isWorkDeferred: Bool {
        get { isDeferred.value }
        set { isDeferred.value = newValue }
    }

    func descriptorReady(_ readiness: Readiness, tag: Int) {
        unsafe context?.harvest()
    }

    func performDeferredWork() {
        unsafe context?.deliverEnded()
        unsafe context?.submitBatch()
    }

    func timerFired(tag: Int) {
        unsafe context?.retry()
    }

    func workCompleted(token: UInt64, result: Int) {
        unsafe context?.stepEnded(Int(token), result: result)
    }
}
