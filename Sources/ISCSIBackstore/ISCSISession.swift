// SPDX-License-Identifier: Apache-2.0

public import LinuxIO
public import Logging

/// A session with one logical unit of an iSCSI target, for as long as the service runs.
///
/// A primer. An iSCSI session (RFC 7143 §4.3) is a TCP connection on which an initiator has logged
/// in. Its name is the initiator's name with an identifier (ISID) that the initiator chooses. Who
/// logs in again under the same name *reinstates* the session (§6.3.5): the target first ends all
/// that is left of the old one. Therefore a command that was under way when the connection broke
/// may be sent again after the next login, where doing it twice does no harm. Where it may, its
/// initiator is told that the nexus was lost, and decides.
///
///     idle ─ start ─► resolving ─► connecting ─► loggingIn ─► probing ─► up
///                         ▲             │             │           │        │
///                         └── backingOff ◄────────────┴───────────┴────────┘
///
/// - *resolving*: a portal's name is looked up by a worker thread; an address skips this.
/// - *probing*: INQUIRY, the pages 83h and 80h, READ CAPACITY. A LUN that now leads to another
///   logical unit than before is refused: writing there would destroy somebody else's data.
/// - *up*: commands pass in the order in which they came, as many as the target's window takes.
/// - *backingOff*: a pause that doubles up to a limit, with jitter, then the next portal.
///
/// Without a session commands wait. After the replacement timeout they fail, and so do new ones,
/// until there is a session again, for which we go on trying. Every state change is one line in the
/// log; attempts that fail for the same reason as the one before are not.
///
/// Limits: one connection, one logical unit, error recovery level 0; at most
/// `maximumInFlight` commands at the target. Everything runs on the loop's thread.
public final class ISCSISession {
    /// What the session is doing.
    public enum Phase: String, Equatable, Sendable {
        case idle, resolving, connecting, loggingIn, probing, up, backingOff, closed
    }

    public let loop: EventLoop
    public let configuration: ISCSISessionConfiguration
    /// Who sends commands; hears how they ended. Not kept alive: it sets this to nil as it goes.
    //
    // A weak reference would have every count of the owner's references take the long way.
    //
    // SAFETY: whoever sets itself here outlives its place here, by the sentence above.
    public var owner: (any ISCSISessionOwner)? {
        get { unsafe flow.value.owner }
        set { unsafe flow.value.owner = newValue }
    }

    let log: Logger
    let resolver: PortalResolver
    /// The LUN as it stands in the first two bytes of the protocol's field: flat from 256 on.
    let lunField: Int32

    public internal(set) var phase: Phase {
        get { flow.value.phase }
        set { flow.value.phase = newValue }
    }
    /// What the logical unit said about itself at the last login; nil before the first.
    public internal(set) var unit: ISCSIUnitInformation?
    /// Why the session is not up; nil while nothing has failed.
    public internal(set) var lastError: ISCSIError?
    /// What the target has against us, which time alone will not change; nil while it may yet let us
    /// in, at one of the portals or another.
    public var refusal: ISCSIError? {
        guard phase == .backingOff, attempt.failureCount >= configuration.portals.count,
            let lastError, lastError.isRefusal
        else { return nil }
        return lastError
    }
    /// Whether the replacement timeout has passed: commands fail at once.
    public internal(set) var hasGivenUp: Bool {
        get { flow.value.hasGivenUp }
        set { flow.value.hasGivenUp = newValue }
    }
    /// Logins that led to a session.
    public internal(set) var loginCount = 0

    // What the extensions keep. One thread, no reentrant access.
    var connection: LibraryConnection?
    var registration: Registration?
    var registeredInterest: Interest = []
    let flow: Cell<Flow>
    var management: ManagementRound?
    public var isWorkDeferred: Bool {
        get { flow.value.isWorkDeferred }
        set { flow.value.isWorkDeferred = newValue }
    }
    var isResetWanted = false
    var isReinstatementWanted = false
    var probe = Probe()
    /// What the look at the unit has found wrong, until the library has returned.
    var probeError: ISCSIError?
    var attempt = Attempt()
    var lastHeard: Instant
    var pingSent: Instant?
    var isPollOutstanding = false
    var timers: [TimerPurpose: TimerToken] = [:]
    var loggedReasons: Set<String> = []
    var downSince: Instant?

    /// What every command touches.
    struct Flow {
        // SAFETY: the owner takes itself away before it goes; see `ISCSISession.owner`.
        unowned(unsafe) var owner: (any ISCSISessionOwner)?
        var isWorkDeferred = false
        var phase = Phase.idle
        var hasGivenUp = false
        var pending = CommandQueue()
        var nextSequence: UInt64 = 0
        var inFlightLimit: Int
        var abortedTokens: Set<UInt64> = []
        var lastCommand: Instant
        var isUsedSinceLogin = false
    }

    /// What a timer of the session is for.
    enum TimerPurpose: Int {
        case phase, replacement, keepAlive, management
    }

    /// Makes a session that does nothing yet.
    ///
    /// - Parameters:
    ///   - configuration: has been checked.
    ///   - loop: on whose thread everything happens.
    ///   - pool: looks portals' names up.
    ///   - log: where state changes go.
    public init(
        _ configuration: ISCSISessionConfiguration, loop: EventLoop, pool: WorkerPool,
        log: Logger
    ) {
        self.configuration = configuration
        self.loop = loop
        var log = log
        log[metadataKey: "iscsi-target"] = "\(configuration.targetName)"
        log[metadataKey: "iscsi-lun"] = "\(configuration.lun)"
        self.log = log
        resolver = PortalResolver(loop: loop, pool: pool)
        lunField = Int32(configuration.lun < 256 ? configuration.lun : 0x4000 | configuration.lun)
        flow = Cell(Flow(inFlightLimit: configuration.maximumInFlight, lastCommand: loop.now))
        lastHeard = loop.now
        resolver.session = BorrowedReference(self)
    }

    deinit {
        resolver.session = nil
        // One that is not closed goes with its loop, where a service does not come to run.
        connection?.destroy()
    }

    /// Begins to connect, and goes on until `close`.
    public func start() {
        guard phase == .idle else { return }
        startReplacementTimer()
        beginAttempt()
    }

    /// Ends the session: says goodbye to the target and fails what waits.
    public func close() {
        guard phase != .closed else { return }
        let wasUp = phase == .up
        phase = .closed
        for purpose in timers.keys { cancelTimer(purpose) }
        resolver.close()
        if wasUp { connection?.logOut() }
        let unfinished = bury()
        for command in unfinished + flow.value.pending.takeAll() { tell(command, .transportFailed) }
        if wasUp { log.info("session closed") }
    }

    // MARK: Timers

    func setTimer(_ purpose: TimerPurpose, after delay: Duration) {
        cancelTimer(purpose)
        timers[purpose] = loop.setTimer(after: delay, handler: self, tag: purpose.rawValue)
    }

    func cancelTimer(_ purpose: TimerPurpose) {
        if let token = timers.removeValue(forKey: purpose) { loop.cancel(token) }
    }
}

/// Who sends commands over a session.
public protocol ISCSISessionOwner: AnyObject {
    /// A command has ended.
    ///
    /// Called once a command, never from inside `submit`. The data are the sense data of CHECK
    /// CONDITION with their length, else what was read without pieces.
    func commandEnded(token: UInt64, _ outcome: ISCSIOutcome, data: RawSpan)

    /// The session is up; `session.unit` says what is behind it.
    ///
    /// `isSame` is false when the capacity differs from the one before, or there was none.
    func sessionUp(_ session: ISCSISession, isSame: Bool)

    /// The session has gone down and is being replaced.
    func sessionDown(_ session: ISCSISession)

    /// The target has reported a unit attention to a command of the session's own: sense data.
    func unitAttention(_ sense: [UInt8])
}

extension ISCSISession: TimerHandler {
    public func timerFired(tag: Int) {
        guard let purpose = TimerPurpose(rawValue: tag) else { return }
        timers[purpose] = nil
        switch purpose {
        case .phase: phaseTimedOut()
        case .replacement: giveUp()
        case .keepAlive: keepAlive()
        case .management: managementTimedOut()
        }
    }
}

extension ISCSISession: EventHandler {
    /// The socket is ready; called by the loop.
    public func descriptorReady(_ readiness: Readiness, tag: Int) {
        guard let connection else { return }
        lastHeard = loop.now
        let isAlive = connection.serve(readiness)
        connectionServed(connection, isAlive)
    }
}

extension ISCSISession: DeferredWork {
    /// Hands commands to the library and lets it send them in one go; called by the loop.
    public func performDeferredWork() {
        if let error = probeError {
            probeError = nil
            if phase == .probing { attemptFailed(error) }
        }
        if isReinstatementWanted { reinstateNow() }
        if phase == .closed || hasGivenUp && phase != .up { failPending() }
        guard phase == .up || phase == .probing, let connection else { return }
        if phase == .up {
            beginManagementIfWanted()
            // What the library refuses has ended the session.
            guard issuePending(to: connection) else { return }
        }
        let isAlive = connection.flush()
        heedWindow(of: connection)
        connectionServed(connection, isAlive)
    }
}
