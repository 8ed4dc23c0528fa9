// SPDX-License-Identifier: Apache-2.0

public import LinuxIO
public import Logging
public import SystemPackage
public import Virtio

/// Serves one device to one front-end after the other (vhost-user, "Communication").
///
/// It lives on its event loop's thread, and so does everything that it owns; every function is
/// called there. A second front-end that comes while one is served is turned away; one that comes
/// while the last one's requests are still draining waits until that is done, and finds a device
/// without a past.
public final class VhostUserServer {
    /// How long the listener is left alone when there is no descriptor for a connection.
    private static let acceptPause = Duration.milliseconds(100)

    private let loop: EventLoop
    private let device: any VirtioDevice
    private var listener: UnixListener?
    private var registration: Registration?
    private let options: VhostUserOptions
    private let logger: Logger
    private let orphanage = Orphanage()
    private var session: Session?
    private var isStopping = false
    private var stopCompletion: (() -> Void)?

    /// Called when a front-end has gone and everything of it has been cleared up.
    ///
    /// A server of one connection has nothing more to do then.
    public var frontEndLeft: (() -> Void)?

    /// Called before a queue starts while none runs.
    public var guestStarts: (() -> Void)?

    /// Called when a guest that migrates, so that what it writes is logged, has stopped: no queue
    /// runs, nothing is in flight, and the front-end has not been told yet.
    ///
    /// It goes on at another place, or, if the migration comes to nothing, here.
    public var guestStopped: (() -> Void)?

    /// Kept by the loop.
    public var isWorkDeferred = false

    /// Waits for front-ends.
    ///
    /// - Parameters:
    ///   - loop: the one that the device lives on.
    ///   - device: served by this server only.
    ///   - listener: a listening socket; its name goes with it.
    ///   - options: the name for the log, what is withheld, how long draining may take.
    ///   - logger: where to log to; the device's name is added to each line.
    /// - Throws: the errno of registering with the loop.
    public init(
        loop: EventLoop, device: any VirtioDevice, listener: UnixListener,
        options: VhostUserOptions, logger: Logger = Logger(label: "vhost-user")
    ) throws(Errno) {
        self.loop = loop
        self.device = device
        self.listener = listener
        self.options = options
        self.logger = Self.logger(logger, options)
        registration = try loop.add(
            listener.descriptorNumber, interest: .readable, handler: self)
    }

    /// Serves the one front-end at the other end of a connection.
    public init(
        loop: EventLoop, device: any VirtioDevice, connected: consuming OwnedDescriptor,
        options: VhostUserOptions, logger: Logger = Logger(label: "vhost-user")
    ) throws(Errno) {
        self.loop = loop
        self.device = device
        self.options = options
        self.logger = Self.logger(logger, options)
        try serve(connected)
    }

    private static func logger(_ logger: Logger, _ options: VhostUserOptions) -> Logger {
        var logger = logger
        logger[metadataKey: "device"] = "\(options.name)"
        return logger
    }

    /// Whether a front-end is connected.
    public var isServing: Bool { session.map { !$0.isEnding } ?? false }

    /// Queues whose requests are still in flight although the time to end them was over.
    public var orphanCount: Int { orphanage.queueCount }

    /// The device's configuration has changed: the front-end is told, if it wants to know, as soon
    /// as it may be.
    public func configurationChanged() {
        session?.configurationChanged()
    }

    /// Stops serving: no more front-ends, no more requests; those in flight may end.
    ///
    /// - Parameters:
    ///   - deadline: after half of it the device is asked to cut requests short; after all of it
    ///     they are left alone.
    ///   - finished: called once, perhaps before this returns.
    public func stop(deadline: Duration, then finished: @escaping () -> Void = {}) {
        isStopping = true
        stopCompletion = finished
        if let registration { loop.remove(registration) }
        registration = nil
        listener = nil
        if let session {
            session.end(DrainLimits(expedite: deadline / 2, abandon: deadline))
        } else {
            reportStop()
        }
    }

    private func reportStop() {
        let finished = stopCompletion
        stopCompletion = nil
        finished?()
    }

    private func serve(_ socket: consuming OwnedDescriptor) throws(Errno) {
        let session = Session(
            connection: try Connection(taking: socket, loop: loop), loop: loop, device: device,
            options: options, logger: logger, orphanage: orphanage
        ) { [weak self] in self?.sessionEnded() }
        session.guestStarts = { [weak self] in self?.guestStarts?() }
        session.guestStopped = { [weak self] in self?.guestStopped?() }
        try session.start()
        self.session = session
        logger.info("front-end connected")
    }

    private func sessionEnded() {
        session = nil
        logger.info("front-end left")
        if isStopping {
            reportStop()
        } else {
            listen(true)
        }
        frontEndLeft?()
    }
}

// MARK: Accepting

extension VhostUserServer: EventHandler, DeferredWork, TimerHandler {
    /// Somebody wants to connect; called by the loop.
    ///
    /// Looked at when the turn ends, because what else it brings may be that the last front-end
    /// has gone; if not even that has come yet, the last one's socket knows.
    public func descriptorReady(_ readiness: Readiness, tag: Int) {
        loop.deferWork(self)
    }

    public func performDeferredWork() {
        do throws(Errno) {
            try acceptAll()
        } catch {
            logger.warning("cannot accept a connection", metadata: ["error": "\(error)"])
            listen(false)
            loop.setTimer(after: Self.acceptPause, handler: self)
        }
    }

    /// The pause after a failed accept is over.
    public func timerFired(tag: Int) {
        if !(session?.isEnding ?? false) { listen(true) }
    }

    private func acceptAll() throws(Errno) {
        while true {
            session?.connection.noticeDeparture()
            if let session, session.isEnding {
                listen(false)
                return
            }
            guard let socket = try listener?.accept() else { return }
            if session == nil {
                try serve(socket)
            } else {
                logger.notice("a second front-end was turned away")
            }
        }
    }

    private func listen(_ isListening: Bool) {
        guard let registration else { return }
        // Changing what a registered, open descriptor is watched for does not fail.
        try? loop.modify(registration, interest: isListening ? .readable : [])
    }
}
