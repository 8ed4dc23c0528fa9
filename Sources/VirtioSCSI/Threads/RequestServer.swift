// SPDX-License-Identifier: Apache-2.0

public import BlockStorage
public import LinuxIO
public import Logging
public import SCSI
public import Virtio

/// Serves request queues of a device on another thread (virtio 1.3 §5.6.6.1).
///
/// What is plain it executes by itself, over the twin of the disk; everything else it leaves to the
/// device, which writes the response and gives the request back. Either way the buffer is put here.
///
/// Lives on its own loop's thread.
public final class RequestServer: QueueServer, RequestTaking, BlockRequestOwner {
    public let loop: EventLoop
    let link: RequestLink
    let logger: Logger
    let requests: GrowingSlab<Request>
    let taken = Slab<TakenRequest>(count: SCSIDevice.budget) { _ in TakenRequest() }
    private let state = Cell(State())
    private let watcher = QueueWatcher<RequestServer>()
    /// Which disks' media the server reaches by itself.
    public let routes = RouteTable()

    /// What changes with every turn of the loop.
    private struct State {
        var queues: [Int: ServedQueue] = [:]
        var queueSerial = 0
        var stoppedQueues: [ServedQueue] = []
        var usedQueues: [BorrowedReference<ServedQueue>] = []
        var unfinishedQueues: [BorrowedReference<ServedQueue>] = []
        var watchedQueues: [BorrowedReference<ServedQueue>] = []
        var isWorkDeferred = false
        var isDraining = false
        var firstFree = -1
        var begunCount: UInt64 = 0
        var forwarded: [ForwardedRequest] = []
        var returned: [ReturnedRequest] = []
    }

    /// What is kept of a request.
    struct Request: ~Copyable {
        var frame = RequestFrame()
        var address = LUNAddress(rawValue: 0)
        var tag: UInt64 = 0
        var command = CommandRequest()
        /// Who executes it, or whom later ones must not pass by; kept by the routes.
        var twin: BorrowedReference<DiskTwin>?
        var transfer: DiskTwin.Transfer?
        /// When it was begun, of one of several.
        var start: Instant?
        var constrainsTwin = false
        /// The next free place.
        var next = -1
    }

    /// A server without queues.
    ///
    /// - Parameters:
    ///   - loop: on whose thread everything happens.
    ///   - link: to the device.
    ///   - logger: where what a driver does wrong is reported.
    public init(loop: EventLoop, link: RequestLink, logger: Logger) {
        self.loop = loop
        self.link = link
        self.logger = logger
        requests = GrowingSlab(limit: link.placeLimit) { Request() }
        watcher.device.value = BorrowedReference(self)
        loop.add(watcher)
    }

    deinit {
        watcher.device.value = nil
        loop.remove(watcher)
    }

    /// Where letters to the server go.
    public var address: RequestServerAddress { RequestServerAddress(self) }

    // MARK: In place

    var usedQueues: [BorrowedReference<ServedQueue>] {
        _read { yield state.value.usedQueues }
        _modify { yield &state.value.usedQueues }
    }

    var unfinishedQueues: [BorrowedReference<ServedQueue>] {
        _read { yield state.value.unfinishedQueues }
        _modify { yield &state.value.unfinishedQueues }
    }

    var watchedQueues: [BorrowedReference<ServedQueue>] {
        _read { yield state.value.watchedQueues }
        _modify { yield &state.value.watchedQueues }
    }

    var firstFree: Int {
        get { state.value.firstFree }
        set { state.value.firstFree = newValue }
    }

    /// Requests that the disks' twins have begun.
    var begunCount: UInt64 {
        get { state.value.begunCount }
        set { state.value.begunCount = newValue }
    }

    /// What is left to the device at the end of the batch.
    var forwarded: [ForwardedRequest] {
        _read { yield state.value.forwarded }
        _modify { yield &state.value.forwarded }
    }

    /// Kept by the loop.
    public var isWorkDeferred: Bool {
        get { state.value.isWorkDeferred }
        set { state.value.isWorkDeferred = newValue }
    }

    // MARK: Queues

    public func startQueue(_ queue: Virtqueue, at index: Int) {
        stopQueue(at: index)
        state.value.queueSerial += 1
        state.value.queues[index] = ServedQueue(
            queue, number: index, serial: state.value.queueSerial)
    }

    public func driverNotified(queueAt index: Int) {
        guard let queue = state.value.queues[index] else { return }
        serveRequests(queue, budget: SCSIDevice.budget)
    }

    public func stopQueue(at index: Int) {
        guard let queue = state.value.queues.removeValue(forKey: index) else { return }
        leave(queue)
        if !queue.isFinished { state.value.stoppedQueues.append(queue) }
        link.post { $0.queueStopping?() }
    }

    public func expediteStop(ofQueueAt index: Int) {
        let serials = state.value.stoppedQueues.filter { $0.number == index }.map(\.serial)
        let link = link
        link.post { device in
            device.expediteStop(ofQueues: serials, over: link)
        }
    }

    // MARK: For the device

    /// Whether nothing is taken from the driver.
    var isDraining: Bool {
        get { state.value.isDraining }
        set {
            let isOver = state.value.isDraining && !newValue
            state.value.isDraining = newValue
            guard isOver else { return }
            for index in state.value.queues.keys { driverNotified(queueAt: index) }
        }
    }

    /// Takes everything that drivers have added before now, and leaves to the device what is its.
    func takeEverything() {
        for queue in state.value.queues.values {
            serveRequests(queue, budget: queue.queue.size)
        }
        publish()
    }

    /// Puts what the device has given back.
    func takeReturned() {
        link.takeReturned(&state.value.returned)
        for request in state.value.returned {
            giveBack(request.place, writtenLength: request.writtenLength)
        }
        state.value.returned.removeAll(keepingCapacity: true)
    }

    /// Publishes what was put.
    func publish() {
        flushUsedQueues()
    }

    /// Ends what belongs to the loop; the server serves nothing any more.
    public func close() {
        for index in Array(state.value.queues.keys) { stopQueue(at: index) }
        routes.removeAll()
    }
}

extension RequestServer: DeferredWork {
    /// Publishes what was put, leaves to the device what is its, and goes on with the queues that
    /// were left.
    public func performDeferredWork() {
        isWorkDeferred = true
        publish()
        isWorkDeferred = false
        resumeUnfinishedQueues()
        link.forward(&forwarded)
        if !state.value.stoppedQueues.isEmpty {
            state.value.stoppedQueues.removeAll { $0.isFinished }
        }
        routes.forgetIdle()
    }
}
