// SPDX-License-Identifier: Apache-2.0

public import LinuxIO
public import Logging
public import SCSI
public import Virtio

/// A virtio-scsi device (virtio 1.3 §5.6): the transport between a driver and a SCSI bus.
///
/// Queue 0 is the control queue, queue 1 the event queue, the others are request queues. A request
/// is taken from its queue, executed on the bus, and answered at the end of the turn of the loop in
/// which it ended; what was answered in one turn is published together, and signalled once a queue.
public final class SCSIDevice: VirtioDevice, QueuePolling {
    /// Request queues that a device may have.
    public static let requestQueueLimit = 254
    /// Buffers taken from a queue before what has ended is answered and other queues get their turn.
    ///
    /// While the device goes on, the driver or the disk works on these: fewer did not do better when
    /// measured, with more one side idles while the other works.
    static let budget = 8
    /// Answers that are published together, for the same reason.
    static let publishCount = 8

    static let controlQueue = 0
    static let eventQueue = 1
    static let firstRequestQueue = 2

    let loop: EventLoop
    let bus: SCSIBus
    let logger: Logger
    /// The commands of the bus.
    let commands: GrowingSlab<Command>
    /// What the transport keeps of the commands of the bus, at the same indices.
    let requests: GrowingSlab<Request>
    private let state: Cell<State>
    private let watcher = QueueWatcher<SCSIDevice>()
    /// Who serves request queues on other threads.
    let servers = RequestServers()
    /// The requests that were taken together.
    let taken = Slab<TakenRequest>(count: SCSIDevice.budget) { _ in TakenRequest() }
    /// Task management under way, by token.
    var controlRequests: [UInt64: ControlRequest] = [:]
    var nextControlToken: UInt64 = 0
    var events = EventBacklog()
    var features: VirtioFeatures = []
    let layout: Cell<RequestLayout>
    private var configuration: SCSIConfiguration
    /// Called when a queue is about to be drained: whoever holds requests back lets them go.
    public var queueStopping: (() -> Void)?

    /// What changes with every turn of the loop.
    private struct State {
        var queues: [ServedQueue?]
        var stoppedQueues: [ServedQueue] = []
        var usedQueues: [ServedQueue] = []
        var unfinishedQueues: [ServedQueue] = []
        var watchedQueues: [BorrowedReference<ServedQueue>] = []
        var isWorkDeferred = false
        var isDraining = false
        var hasServers = false
    }

    /// The sizes that the driver has chosen.
    struct RequestLayout {
        var cdbByteCount = SCSIConfiguration.defaultCDBByteCount
        var senseByteCount = SCSIConfiguration.defaultSenseByteCount

        @inline(__always)
        var headerByteCount: Int { RequestHeader.byteCount &+ cdbByteCount }
        @inline(__always)
        var responseByteCount: Int { ResponseHeader.byteCount &+ senseByteCount }
    }

    /// What the transport keeps of a command.
    struct Request: ~Copyable {
        /// The buffer's pieces, and those that were made by cutting them.
        var pieces = IOVectorArray(capacity: 8)
        /// Where the device-writable pieces stand: the response, then data-in.
        var writablePieces = 0..<0
        var bufferID: UInt16 = 0
        /// Where to put the buffer.
        var queue: BorrowedReference<ServedQueue>?
        /// The size of the response when the request was taken.
        var senseByteCount = 0
        /// Where it came from, if a server has left it to the device.
        var origin: RequestOrigin?
    }

    /// A device in front of a bus, which has no other transport.
    ///
    /// - Parameters:
    ///   - loop: on whose thread everything happens.
    ///   - bus: was made with the same loop.
    ///   - requestQueueCount: 1 to 254.
    ///   - logger: where what a driver does wrong is reported.
    public init(loop: EventLoop, bus: SCSIBus, requestQueueCount: Int, logger: Logger) {
        precondition(
            (1...Self.requestQueueLimit).contains(requestQueueCount),
            "a device has 1 to 254 request queues")
        self.loop = loop
        self.bus = bus
        self.logger = logger
        commands = bus.commands.commands
        requests = GrowingSlab(limit: bus.commands.limit) { Request() }
        state = Cell(
            State(
                queues: Array(
                    repeating: nil, count: Self.firstRequestQueue + requestQueueCount)))
        configuration = SCSIConfiguration(requestQueueCount: requestQueueCount)
        layout = Cell(RequestLayout())
        bus.commands.completionWork = self
        bus.observer = self
        watcher.device.value = BorrowedReference(self)
        loop.add(watcher)
    }

    deinit {
        watcher.device.value = nil
        loop.remove(watcher)
    }

    // MARK: In place

    /// The queues that run, by their numbers.
    var queues: [ServedQueue?] {
        _read { yield state.value.queues }
        _modify { yield &state.value.queues }
    }

    /// Queues that were stopped and have buffers still to be put.
    private var stoppedQueues: [ServedQueue] {
        _read { yield state.value.stoppedQueues }
        _modify { yield &state.value.stoppedQueues }
    }

    /// Queues that have something to publish at the end of the turn.
    var usedQueues: [ServedQueue] {
        _read { yield state.value.usedQueues }
        _modify { yield &state.value.usedQueues }
    }

    /// Queues that may have more buffers than were taken so far.
    var unfinishedQueues: [ServedQueue] {
        _read { yield state.value.unfinishedQueues }
        _modify { yield &state.value.unfinishedQueues }
    }

    /// Queues that are polled: their drivers need not notify.
    var watchedQueues: [BorrowedReference<ServedQueue>] {
        _read { yield state.value.watchedQueues }
        _modify { yield &state.value.watchedQueues }
    }

    /// Whether other threads serve request queues.
    var hasServers: Bool {
        get { state.value.hasServers }
        set { state.value.hasServers = newValue }
    }

    /// Kept by the loop.
    public var isWorkDeferred: Bool {
        get { state.value.isWorkDeferred }
        set { state.value.isWorkDeferred = newValue }
    }

    // MARK: Draining

    /// Whether nothing is taken from the driver: what is under way ends, what the driver adds stays in
    /// the rings until this is over.
    public var isDraining: Bool {
        get { state.value.isDraining }
        set {
            let isOver = state.value.isDraining && !newValue
            state.value.isDraining = newValue
            servers.post { $0.isDraining = newValue }
            guard isOver else { return }
            for index in queues.indices { driverNotified(queueAt: index) }
        }
    }

    /// Commands that were taken and not answered yet.
    public var underWayCount: Int {
        max(0, bus.commands.underWayCount + servers.underWayCount - servers.executingCount)
    }

    // MARK: What the device is

    public var offeredFeatures: VirtioFeatures {
        [
            .version1, .indirectDescriptors, .eventIndex, .ringPacked, .scsiHotPlug, .scsiChange,
        ]
    }

    public var queueCount: Int { queues.count }

    public func readConfiguration() -> [UInt8] { configuration.bytes }

    public func writeConfiguration(_ bytes: [UInt8], at offset: Int) -> Bool {
        guard configuration.write(bytes, at: offset) else { return false }
        layout.value.cdbByteCount = configuration.cdbByteCount
        layout.value.senseByteCount = configuration.senseByteCount
        servers.setLayout(layout.value)
        return true
    }

    public func featuresNegotiated(_ features: VirtioFeatures) {
        self.features = features
    }

    // MARK: Queues

    public func startQueue(_ queue: Virtqueue, at index: Int) {
        guard queues.indices.contains(index) else { return }
        stopQueue(at: index)
        queues[index] = ServedQueue(queue, number: index)
    }

    public func driverNotified(queueAt index: Int) {
        guard queues.indices.contains(index), let queue = queues[index] else { return }
        switch index {
        // A command must not be aborted that is still in its ring: the guest would take it for gone.
        case Self.controlQueue: if !isDraining { serveControl(queue) }
        case Self.eventQueue: deliverEvents()
        default: serveRequests(queue, budget: Self.budget)
        }
    }

    public func stopQueue(at index: Int) {
        guard queues.indices.contains(index), let queue = queues[index] else { return }
        queues[index] = nil
        queueStopping?()
        forget(queue)
        queue.stop()
        if !queue.isFinished { stoppedQueues.append(queue) }
    }

    public func expediteStop(ofQueueAt index: Int) {
        rejectWaitingFunctions { $0.queue.number == index && !$0.queue.isServed }
        bus.commands.abandonWaiting { command in
            requests[command].queue?.with { $0.number == index && !$0.isServed } ?? false
        }
    }

    public func reset() {
        rejectWaitingFunctions { _ in true }
        features = []
        events = EventBacklog()
        configuration = SCSIConfiguration(requestQueueCount: configuration.requestQueueCount)
        layout.value = RequestLayout()
        servers.setLayout(layout.value)
        bus.initiatorReset()
    }

    // MARK: Trouble

    /// The driver broke the rules of a queue: nothing more is taken from it until it starts anew.
    func breakQueue(_ queue: ServedQueue, because reason: String) {
        if queue.isBroken { return }
        queue.markBroken()
        logger.notice(
            "queue broken by its driver",
            metadata: ["queue": "\(queue.number)", "reason": "\(reason)"])
    }

    /// A buffer lies in memory that the front-end does not share; one line a queue.
    func reportCut(_ queue: ServedQueue) {
        guard queue.noteCut() else { return }
        logger.warning(
            """
            the front-end does not share all memory of the guest: requests there fail; set share=on \
            for every memory backend, those that are plugged in later too
            """, metadata: ["queue": "\(queue.number)"])
    }
}

extension SCSIDevice: DeferredWork {
    /// Answers what has ended, publishes it, and goes on with the queues that were left.
    public func performDeferredWork() {
        // What is put meanwhile is published in here: another round would find nothing.
        isWorkDeferred = true
        answerEndedCommands()
        answerEndedManagements()
        publish()
        isWorkDeferred = false
        if bus.commands.hasEnded { loop.deferWork(self) }
        if state.value.hasServers { executeWaiting() }
        resumeUnfinishedQueues()
        if !stoppedQueues.isEmpty { stoppedQueues.removeAll { $0.isFinished } }
    }

    @inline(__always)
    private func answerEndedCommands() {
        var left = Self.publishCount
        while let index = bus.commands.popEnded() {
            answer(index)
            left &-= 1
            if left == 0 {
                publish()
                left = Self.publishCount
            }
        }
        publish()
    }

    private func publish() {
        while let queue = usedQueues.popLast() { queue.flush() }
        if state.value.hasServers { servers.giveBack() }
    }

    private func resumeUnfinishedQueues() {
        for _ in 0..<unfinishedQueues.count {
            let queue = unfinishedQueues.removeFirst()
            queue.isUnfinished = false
            serveRequests(queue, budget: Self.budget)
        }
    }

    /// Gives a buffer back; published at the end of the turn.
    @inline(__always)
    func put(_ id: UInt16, writtenLength: Int, to queue: ServedQueue) {
        if queue.put(id, writtenLength: writtenLength) {
            usedQueues.append(queue)
            loop.deferWork(self)
        }
    }
}

extension VirtioFeatures {
    /// VIRTIO_SCSI_F_HOTPLUG.
    static let scsiHotPlug = bit(1)
    /// VIRTIO_SCSI_F_CHANGE.
    static let scsiChange = bit(2)
}
