// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import Virtio

/// Carries every connection of one guest over its two queues.
///
/// A turn of the event loop goes like this: events of sockets and queues only note what there is to
/// do; at the end of the turn the multiplexer does it, once: first packets from the guest
/// (`Multiplexer+Hostbound`), then packets for it (`Multiplexer+Guestbound`), each within a budget,
/// each with one publication and at most one signal. What is left over is for the next turn, after
/// everybody else on the loop has had theirs.
///
/// Everything here is called on the loop's thread.
final class Multiplexer {
    /// Timers of the multiplexer, by tag.
    enum TimerTag: Int {
        /// Goes on with what the budget of a turn left over.
        case nextTurn
        /// The earliest deadline of a connection has passed.
        case patience
        /// The listener may be looked at again.
        case acceptAgain
        /// The guest has not been signalled yet for packets that it may not be waiting for.
        case signal
        /// The driver has had long enough to read an event.
        case event
        /// The guest's packets are looked at, without a notification.
        case look
    }

    /// Pieces that one system call takes (IOV_MAX).
    static let piecesPerCall = 1024

    let loop: EventLoop
    let options: VsockOptions
    let guest: ContextID
    let log: Logger
    let table: ConnectionTable
    var resets = ResetStore(capacity: 256)
    /// What has been done; in a cell, so that counting costs nothing.
    let counters = Cell(VsockStatistics())

    // MARK: Queues

    /// Where the guest posts buffers for packets to it (virtio 1.3 §5.10.2, rx).
    var guestboundQueue: Virtqueue?
    /// Where the guest's packets come (virtio 1.3 §5.10.2, tx).
    var hostboundQueue: Virtqueue?
    /// Whether a driver has started a queue since the last reset.
    var hasDriver = false
    /// Whether the driver has negotiated messages (VIRTIO_VSOCK_F_SEQPACKET).
    var carriesMessages = false
    /// Whether the guest may have packets for us.
    var hostboundIsDue = false
    /// Whether there was no receive buffer when one was needed.
    var isStarved = false
    /// Whether the guest is to be signalled for its packets at the end of this turn.
    var isSignalDue = false
    /// Packets of the guest that it has not been signalled for.
    var unsignalledCount = 0
    var signalTimerIsSet = false

    // MARK: Streams that are read by the clock

    /// Whether there is a clock that is exact enough.
    let canRest: Bool
    /// Whether the guest need not notify, because its queue is looked at soon in any case.
    var isHostboundUnwatched = false
    /// Passes over the guest's packets with nothing but credit updates, up to now.
    var quietPassCount = 0
    /// The connection that had the last turn.
    var servedSlot = 0
    /// How long more is expected behind a turn that moved much to the guest.
    var bulkEnd = Instant(nanoseconds: 0)
    var lookTimerIsSet = false

    /// What is to be told on the event queue.
    var events = EventState()
    /// Where every packet is written; nil when none is.
    let capture: PacketCapture?

    // MARK: Scratch, kept so that nothing is allocated in a turn

    /// The pieces of the packet of the guest at hand.
    let packetPieces = Slab<IOVectorArray>(count: 1) { _ in IOVectorArray(capacity: 1100) }
    /// The pieces of the buffers for the guest at hand.
    let bufferPieces = Slab<IOVectorArray>(count: 1) { _ in IOVectorArray(capacity: 1100) }
    /// Payload from the guest that goes to one socket.
    let gathered = Slab<IOVectorArray>(count: 1) { _ in IOVectorArray(capacity: 1100) }
    /// Parts of receive buffers that one socket is read into.
    let scattered = Slab<IOVectorArray>(count: 1) { _ in IOVectorArray(capacity: 1100) }
    /// Chains from the guest that are done with at the end of the turn.
    let finished = Slab<UInt16>(count: Multiplexer.packetsPerTurn) { _ in 0 }
    var finishedCount = 0
    /// Receive buffers that one read of a socket may fill.
    let offered = Slab<Buffer?>(count: Multiplexer.buffersPerRead) { _ in nil }

    /// The connection whose payload is being gathered; negative for none.
    var runSlot = -1

    // MARK: Host

    /// Where clients connect.
    var entrances: [Entrance] = []
    /// Whether it is in the log already that clients cannot be accepted.
    var hasReportedAccept = false
    /// Whether no connections are made, from either side.
    var isDraining = false
    /// The host port that was given out last.
    var lastHostPort = UInt32.random(in: Multiplexer.hostPorts)

    // MARK: Turn

    var isWorkDeferred = false
    /// Whether the work of a turn is under way.
    private var isServing = false
    private var nextTurnIsSet = false
    /// When the timer for the earliest deadline fires; nil when it is not set.
    var patienceTimer: (token: TimerToken, deadline: Instant)?

    init(
        loop: EventLoop, options: VsockOptions, guest: ContextID, log: Logger,
        capture: PacketCapture?
    ) {
        self.capture = capture
        canRest = EventLoop.hasExactTimers && options.rest > .zero
        self.loop = loop
        self.options = options
        self.guest = guest
        self.log = log
        table = ConnectionTable(
            limit: options.connectionLimit + options.handshakeLimit + options.lingerLimit)
    }

    /// Connections, open or closing: without clients that have not named a port, and without
    /// those that the guest has forgotten.
    var connectionCount: Int {
        table.count - table.waitingCount(.handshake) - table.waitingCount(.guest)
            - table.waitingCount(.linger)
    }

    /// Has the work of a turn done at its end.
    @inline(__always)
    func deferTurn() {
        if !isServing { loop.deferWork(self) }
    }

    /// Gives a connection its turn if it has anything for the guest.
    @inline(__always)
    func refresh(_ slot: Int) {
        guard table.slots[slot].connection.nextOperation != nil else { return }
        table.appendReady(slot)
        deferTurn()
    }

    private var hasMoreToDo: Bool {
        if hostboundIsDue && hostboundQueue != nil && !resets.isFull { return true }
        return !isStarved && guestboundQueue != nil && !events.awaitsDriver
            && (resets.count > 0 || table.firstReady != nil)
    }
}

extension Multiplexer: DeferredWork {
    func performDeferredWork() {
        isServing = true
        leaveHostboundUnwatched()
        serveEvents()
        serveHostbound()
        serveGuestbound()
        signalHostbound()
        watchHostbound()
        capture?.flush()
        isServing = false
        if hasMoreToDo && !nextTurnIsSet {
            nextTurnIsSet = true
            loop.setTimer(after: .zero, handler: self, tag: TimerTag.nextTurn.rawValue)
        }
    }
}

extension Multiplexer: TimerHandler {
    func timerFired(tag: Int) {
        switch TimerTag(rawValue: tag) {
        case .nextTurn:
            nextTurnIsSet = false
            deferTurn()
        case .patience:
            patienceTimer = nil
            endWaits()
        case .acceptAgain:
            resumeAccepting()
        case .signal:
            signalTimerIsSet = false
            signalNow()
        case .event:
            endEventWait()
        case .look:
            lookTimerIsSet = false
            deadlinePassed()
        case nil:
            break
        }
    }
}

// MARK: - The driver

extension Multiplexer {
    /// The queue for packets to the guest starts.
    func startGuestbound(_ queue: Virtqueue) {
        queue.suppressNotifications()
        guestboundQueue = queue
        isStarved = false
        noteStart(of: queue)
        deferTurn()
    }

    /// The queue for packets from the guest starts.
    func startHostbound(_ queue: Virtqueue) {
        if resets.count == 0 { resets = ResetStore(capacity: queue.size) }
        hostboundQueue = queue
        hostboundIsDue = true
        isHostboundUnwatched = false
        quietPassCount = 0
        noteStart(of: queue)
        deferTurn()
    }

    /// Signals for every packet that was used.
    func signalNow() {
        unsignalledCount = 0
        hostboundQueue?.signal()
    }

    /// The queue for packets from the guest stops.
    func stopHostbound() {
        signalNow()
        hostboundQueue = nil
    }

    /// The guest has posted receive buffers.
    func receiveBuffersPosted() {
        guard isStarved, let queue = guestboundQueue else { return }
        queue.suppressNotifications()
        isStarved = false
        deferTurn()
    }

    /// The guest has queued packets.
    func packetsQueued() {
        hostboundIsDue = true
        deferTurn()
    }

    /// The driver is gone: every connection ends, listeners stay.
    func forgetDriver() {
        hasDriver = false
        guestboundQueue = nil
        hostboundQueue = nil
        hostboundIsDue = false
        isStarved = false
        events = EventState()
        resets.removeAll()
        for slot in table.indices {
            switch table.slots[slot].connection.phase {
            case .free, .handshaking, .lingering: break
            case .connectingToHost, .connectingToGuest, .established, .closing, .resetting:
                forgotten(slot)
            }
        }
    }

    /// Ends everything, so that the loop keeps nothing of the device.
    func close() {
        forgetDriver()
        for slot in table.indices where table.slots[slot].connection.phase != .free {
            release(slot)
        }
        for entrance in entrances {
            if let registration = entrance.registration { loop.remove(registration) }
        }
        entrances = []
        capture?.close()
        if let patienceTimer { loop.cancel(patienceTimer.token) }
        patienceTimer = nil
    }

    /// A queue is broken: what the driver wrote makes no sense.
    ///
    /// One line a queue.
    func report(_ breakage: VirtqueueError, of name: String) {
        log.notice(
            "the driver broke a queue; it is not served until the guest resets the device",
            metadata: ["queue": "\(name)", "reason": "\(breakage)"])
    }
}
