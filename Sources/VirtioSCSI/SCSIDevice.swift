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
public final class SCSIDevice: VirtioDevice, RequestTaking {
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
        var usedQueues: [BorrowedReference<ServedQueue>] = []
        var unfinishedQueues: [BorrowedReference<ServedQueue>] = []
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
        var frame = RequestFrame()
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
    var usedQueues: [BorrowedReference<ServedQueue>] {
        _read { yield state.value.usedQueues }
        _modify { yield &state.value.usedQueues }
    }

    /// Queues that may have more buffers than were taken so far.
    var unfinishedQueues: [BorrowedReference<ServedQueue>] {
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
        leave(queue)
        if !queue.isFinished { stoppedQueues.append(queue) }
    }

    public func expediteStop(ofQueueAt index: Int) {
        rejectWaitingFunctions { $0.queue.number == index && !$0.queue.isServed }
        bus.commands.abandonWaiting { command in
            requests[command].frame.queue?.with { $0.number == index && !$0.isServed } ?? false
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
        if state.value.hasServers { resumeReceived() }
        resumeUnfinishedQueues()
        if !stoppedQueues.isEmpty { stoppedQueues.removeAll { $0.isFinished } }
    }

    /// Answers what has ended, some at a time; apart, so that it can be watched.
    @inline(never)
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
        flushUsedQueues()
        if state.value.hasServers { servers.giveBack() }
    }
}

extension VirtioFeatures {
    /// VIRTIO_SCSI_F_HOTPLUG.
    static let scsiHotPlug = bit(1)
    /// VIRTIO_SCSI_F_CHANGE.
    static let scsiChange = bit(2)
}
