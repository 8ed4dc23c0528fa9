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
/// read from the ring that the kernel maps: when others are handed over, when the kernel's eventfd has
/// woken the loop, and when the loop polls. Nothing reads the eventfd: it is watched for edges. The rest goes to worker threads: files that lie in memory or go
/// through the page cache, holes, zeroes, and everything when the host has no AIO requests left
/// (fs.aio-max-nr).
///
/// A request lives in a slot of a fixed table until it has ended. When the table is full, when the
/// bounce buffers are in use, or when the kernel has no room, requests wait in order. Of several
/// stores none takes all slots, however many requests it has: one whose medium hangs leaves the
/// others going.
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
    let loopSide = LoopSide()
    private let workerSide = WorkerSide()

    /// One slot a request under way.
    let requests: Slab<AIORequest>
    let state: Cell<State>
    /// The control blocks to hand over at the end of the turn.
    let batch: UnsafeMutablePointer<UnsafeMutablePointer<iocb>?>
    private var stores: [FileStore] = []

    /// Requests that the kernel takes at once; 0 when everything goes to the workers.
    public let kernelRequestCount: Int
    /// Whether a look at what has ended makes no system call.
    let looksForFree: Bool

    /// Whether a request has not ended.
    @inline(__always)
    var hasRequests: Bool { state.value.freeSlotCount < requests.count }

    /// What changes with every request.
    struct State: ~Copyable {
        var freeSlots: RequestList
        var freeSlotCount: Int
        var storeCount = 0
        /// Stores with requests that wait for a slot, in the order in which they get one.
        var waitingStores: [StoreReference] = []
        /// Came after their store was closed; told at the end of the turn.
        var late = WaitingRequests()
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
        kernelRequestCount = Self.setUp(kernel, requestCount)
        looksForFree = kernelRequestCount > 0 && kernel.completionsAreFree
        // No more than the kernel takes: what it had no room for would hold up other stores.
        let slotCount = kernelRequestCount > 0 ? kernelRequestCount : requestCount
        let slots = Slab(count: slotCount) { _ in AIORequest() }
        var free = RequestList()
        for index in 0..<slotCount { free.append(index, in: slots) }
        requests = slots
        state = Cell(
            State(
                freeSlots: free, freeSlotCount: slotCount,
                bounce: try BouncePool(count: Self.bounceBufferCount)))
        completed = try EventCounter()
        port = try CompletionPort(loop: loop, pool: workers, handler: workerSide)
        registration = try loop.add(
            completed.descriptor.rawValue, interest: [.readable, .edgeTriggered],
            handler: loopSide)
        unsafe batch = .allocate(capacity: slotCount)
        loopSide.context.value = BorrowedReference(self)
        workerSide.context.value = BorrowedReference(self)
        loop.add(loopSide)
        if kernelRequestCount < requestCount { logShortage(requestCount) }
    }

    deinit {
        // Nothing is under way: a store with requests keeps itself and the context.
        loopSide.context.value = nil
        workerSide.context.value = nil
        loop.remove(registration)
        loop.remove(loopSide)
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
        state.value.storeCount = stores.count
    }

    /// Lets go of a store that has ended.
    func detach(_ store: FileStore) {
        stores.removeAll { $0 === store }
        state.value.storeCount = stores.count
    }

    // MARK: Slots

    /// Queues a request of a store.
    func submit(
        _ request: BlockRequest, store: FileStore, owner: OwnerReference, token: UInt64
    ) {
        if store.state.value.isClosed { return refuse(request, store, owner, token) }
        store.state.value.requestCount &+= 1
        guard store.state.value.waiting.isEmpty, let index = takeSlot(for: store) else {
            return waitForSlot(
                WaitingRequest(
                    request: request, store: StoreReference(store), owner: owner, token: token))
        }
        fill(index, request, store: StoreReference(store), owner: owner, token: token)
        start(index)
    }

    /// A slot for a request of the store; nil when it has its share.
    ///
    /// Of several stores each gets at most twice as many as it leaves free. So a busy one gets most
    /// of them, and there are always some for one that has none.
    @inline(__always)
    private func takeSlot(for store: FileStore) -> Int? {
        let isShared = state.value.storeCount > 1
        if isShared && store.state.value.slotCount > 2 &* state.value.freeSlotCount &- 2 {
            return nil
        }
        guard let index = state.value.freeSlots.removeFirst(in: requests) else { return nil }
        state.value.freeSlotCount &-= 1
        store.state.value.slotCount &+= 1
        return index
    }

    /// Ends a request that came after its store was closed.
    @inline(never)
    private func refuse(
        _ request: BlockRequest, _ store: FileStore, _ owner: OwnerReference, _ token: UInt64
    ) {
        // A store that has ended already is kept until its owner knows.
        if store.state.value.requestCount == 0 { attach(store) }
        store.state.value.requestCount &+= 1
        state.value.late.append(
            WaitingRequest(
                request: request, store: StoreReference(store), owner: owner, token: token))
        loop.deferWork(loopSide)
    }

    @inline(never)
    private func waitForSlot(_ request: WaitingRequest) {
        let isFirst = request.store.with { store in
            let isFirst = store.state.value.waiting.isEmpty
            store.state.value.waiting.append(request)
            return isFirst
        }
        if isFirst { state.value.waitingStores.append(request.store) }
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

    /// Frees the slot of a request that has ended, and starts those that have waited longest.
    func vacate(_ index: Int) {
        requests[index].store?.with { $0.state.value.slotCount &-= 1 }
        requests[index].forget()
        state.value.freeSlots.append(index, in: requests)
        state.value.freeSlotCount &+= 1
        if !state.value.waitingStores.isEmpty { startWaiting() }
    }

    /// Gives the free slots to the stores with waiting requests, one each in turn.
    @inline(never)
    private func startWaiting() {
        var place = 0
        while place < state.value.waitingStores.count {
            let reference = state.value.waitingStores[place]
            guard let index = reference.with({ takeSlot(for: $0) }) else {
                place += 1
                continue
            }
            state.value.waitingStores.remove(at: place)
            startFirstWaiting(of: reference, in: index)
        }
    }

    private func startFirstWaiting(of reference: StoreReference, in index: Int) {
        let next = reference.with { store in
            let next = store.state.value.waiting.removeFirst()
            if !store.state.value.waiting.isEmpty { state.value.waitingStores.append(reference) }
            return next
        }
        guard let next else { preconditionFailure("a store that waits has a request") }
        fill(index, next.request, store: next.store, owner: next.owner, token: next.token)
        start(index)
    }
}
