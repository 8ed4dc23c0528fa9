// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SystemPackage

/// The way from nothing to a login, again and again.
extension ISCSISession {
    /// Times that a target may send us on before we give the attempt up.
    private static let redirectLimit = 4

    /// One attempt after the other.
    struct Attempt {
        /// Failed ones since the session was last up.
        var failureCount = 0
        var portalIndex = 0
        /// Where the target has sent us (RFC 7143 §11.13.5, Redirection).
        var redirectedTo: ISCSIPortal?
        var redirectCount = 0
        /// What is being connected to, for messages.
        var portal: ISCSIPortal?
    }

    /// Begins with the portal whose turn it is.
    func beginAttempt() {
        let portals = configuration.portals
        let portal = attempt.redirectedTo ?? portals[attempt.portalIndex % portals.count]
        attempt.portal = portal
        if PortalResolver.isNumeric(portal.host) {
            connect(to: portal.description)
        } else {
            phase = .resolving
            setTimer(.phase, after: configuration.timeouts.connect)
            if !resolver.resolve(portal) {
                attemptFailed(.unresolvable(name: portal.host, reason: "no descriptor left"))
            }
        }
    }

    /// The look-up of the portal's name has ended.
    ///
    /// - Parameters:
    ///   - address: a numeric portal; nil when there is none.
    ///   - reason: why not.
    func portalResolved(_ address: String?, reason: String) {
        guard phase == .resolving else { return }
        guard let address else {
            return attemptFailed(
                .unresolvable(name: attempt.portal?.host ?? "", reason: reason))
        }
        connect(to: address)
    }

    private func connect(to address: String) {
        phase = .connecting
        setTimer(.phase, after: configuration.timeouts.connect)
        do {
            let connection = try LibraryConnection(configuration, owner: self)
            self.connection = connection
            if let reason = connection.connect(to: address) {
                return attemptFailed(.unconnectable(portal: portalText, reason: reason))
            }
            registeredInterest = connection.interest
            registration = try loop.add(
                connection.descriptor, interest: registeredInterest, handler: self)
        } catch let error as ISCSIError {
            attemptFailed(error)
        } catch {
            attemptFailed(.unconnectable(portal: portalText, reason: "\(error)"))
        }
    }

    private var portalText: String { attempt.portal?.description ?? "" }

    // MARK: What the library found out

    /// The library has run: looks at what has changed.
    ///
    /// - Parameters:
    ///   - connection: the session's present one.
    ///   - isAlive: whether it is still of use.
    func connectionServed(_ connection: LibraryConnection, _ isAlive: Bool) {
        switch phase {
        case .up where isAlive && management == nil: return updateInterest(of: connection)
        case .connecting: connectServed(connection, isAlive)
        case .loggingIn: loginServed(connection, isAlive)
        case .probing where !isAlive:
            attemptFailed(.connectionLost(reason: connection.errorText))
        case .up where !isAlive:
            loseSession(.connectionLost(reason: connection.errorText))
        case .up: continueManagement()
        default: break
        }
        if let connection = self.connection { updateInterest(of: connection) }
    }

    private func connectServed(_ connection: LibraryConnection, _ isAlive: Bool) {
        guard isAlive, connection.connectSucceeded != false else {
            return attemptFailed(
                .unconnectable(
                    portal: portalText, reason: connection.connectError ?? connection.errorText))
        }
        guard connection.connectSucceeded == true else { return }
        phase = .loggingIn
        setTimer(.phase, after: configuration.timeouts.login)
        if !connection.logIn() {
            attemptFailed(.loginFailed(portal: portalText, reason: connection.errorText))
        }
    }

    private func loginServed(_ connection: LibraryConnection, _ isAlive: Bool) {
        if let error = connection.parameterError { return attemptFailed(error) }
        switch connection.loginEnd {
        case .succeeded where isAlive:
            connection.becomeQuiet()
            logParameters(connection.parameters)
            beginProbe()
        case .redirected:
            follow(connection.redirection)
        case .failed, .succeeded:
            attemptFailed(loginError(connection))
        case nil where !isAlive:
            attemptFailed(.loginFailed(portal: portalText, reason: connection.errorText))
        case nil: break
        }
    }

    private func loginError(_ connection: LibraryConnection) -> ISCSIError {
        if let status = connection.loginStatus {
            return .loginRefused(portal: portalText, status: status)
        }
        return .loginFailed(portal: portalText, reason: connection.errorText)
    }

    /// Connects to where the target sends us, for this one session.
    private func follow(_ address: String) {
        attempt.redirectCount += 1
        guard attempt.redirectCount <= Self.redirectLimit else {
            return attemptFailed(.tooManyRedirects(limit: Self.redirectLimit))
        }
        do {
            attempt.redirectedTo = try ISCSIPortal(address)
            log.info("the target sends us on", metadata: ["portal": "\(address)"])
            _ = bury()
            beginAttempt()
        } catch {
            attemptFailed(error)
        }
    }

    private func logParameters(_ parameters: LoginParameters) {
        log.debug(
            "logged in",
            metadata: [
                "portal": "\(portalText)",
                "max-segment": "\(parameters.maximumSegment)",
                "first-burst": "\(parameters.firstBurst)",
                "max-burst": "\(parameters.maximumBurst)",
                "initial-r2t": "\(parameters.initialR2T)",
                "immediate-data": "\(parameters.immediateData)",
                "header-digest": "\(parameters.headerDigest)",
            ])
    }

    /// Tells the loop what the library waits for, when that has changed.
    private func updateInterest(of connection: LibraryConnection) {
        let interest = connection.interest
        if interest == registeredInterest { return }
        guard let registration else { return }
        registeredInterest = interest
        // The descriptor is in the loop, so that the kernel has nothing to refuse.
        try? loop.modify(registration, interest: interest)
    }

    // MARK: Failing

    /// The phase has taken too long.
    func phaseTimedOut() {
        let limits = configuration.timeouts
        switch phase {
        case .resolving:
            resolver.cancel()
            let reason = "no answer within \(limits.connect)"
            attemptFailed(.unresolvable(name: attempt.portal?.host ?? "", reason: reason))
        case .connecting: attemptFailed(.connectTimeout(portal: portalText, limits.connect))
        case .loggingIn: attemptFailed(.loginTimeout(portal: portalText, limits.login))
        case .probing: attemptFailed(.probeTimeout(limits.probe))
        case .backingOff: beginAttempt()
        case .idle, .up, .closed: break
        }
    }

    /// Gives the attempt up and makes a pause before the next.
    func attemptFailed(_ error: ISCSIError) {
        _ = bury()
        lastError = error
        reportFailure(error)
        attempt.failureCount += 1
        attempt.redirectedTo = nil
        attempt.redirectCount = 0
        attempt.portalIndex += 1
        phase = .backingOff
        setTimer(.phase, after: backoff())
    }

    /// One line for each new reason.
    private func reportFailure(_ error: ISCSIError) {
        let reason = error.description
        guard loggedReasons.insert(reason).inserted else { return }
        log.warning(
            "no session; trying on", metadata: ["reason": "\(reason)", "portal": "\(portalText)"])
    }

    /// Doubles with each failure up to the limit; of that, a random part between half and all, so
    /// that the initiators of a target that was away do not all come at once.
    private func backoff() -> Duration {
        let limits = configuration.timeouts
        // Another portal may well be there: the pause comes when all have been tried.
        let rounds = (attempt.failureCount - 1) / configuration.portals.count
        let longest = limits.longestBackoff.wholeNanoseconds
        let (doubled, overflow) = limits.firstBackoff.wholeNanoseconds
            .multipliedReportingOverflow(by: 1 << UInt64(min(rounds, 32)))
        let pause = max(2, overflow ? longest : min(doubled, longest))
        return .nanoseconds(Int64(clamping: UInt64.random(in: pause / 2...pause)))
    }

    /// Destroys the connection.
    ///
    /// - Returns: the commands that it had not ended, the oldest first.
    func bury() -> [ISCSICommand] {
        guard let connection else { return [] }
        self.connection = nil
        if let registration { loop.remove(registration) }
        registration = nil
        cancelTimer(.phase)
        cancelTimer(.keepAlive)
        cancelTimer(.management)
        management = nil
        isPollOutstanding = false
        pingSent = nil
        let commands = connection.slots.usedIndices().compactMap(connection.slots.command)
        connection.destroy()
        return commands.filter { $0.purpose == .owner }
    }
}
