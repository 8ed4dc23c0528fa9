// SPDX-License-Identifier: Apache-2.0

import CLibiscsi
import Glibc
import LinuxIO

/// What a connection tells its session while the library runs.
protocol LibraryConnectionOwner: AnyObject {
    /// A command has ended; the data are what the library gathered, or the sense.
    func commandEnded(
        _ command: ISCSICommand, status: Int32, _ residual: ISCSIResidual, data: RawSpan)
}

/// One connection to a target, from its first packet to its last: a libiscsi context.
///
/// The library's own reconnection is switched off, because it takes a new ISID, forgets what was
/// negotiated and repeats what must not be repeated. A broken connection is never mended; its
/// session makes another. Everything here runs on the loop's thread.
//
// SAFETY: the context lives from `init` to `destroy`, which every session calls once; the library runs
// only within calls from here, on one thread, and copies the strings that it is given. The pointer that
// its callbacks bring is this object, which its session holds for as long as the library may call.
@safe final class LibraryConnection {
    /// How the login ended.
    enum LoginEnd: Equatable {
        case succeeded, failed, redirected
    }

    private let context: OpaquePointer
    /// The session, which destroys the connection before it goes.
    private unowned(unsafe) let owner: any LibraryConnectionOwner
    let slots: LibrarySlots
    private var isDestroyed = false

    /// The socket is connected, or the attempt has failed; nil before.
    private(set) var connectSucceeded: Bool?
    /// Why the socket could not be connected.
    private(set) var connectError: String?
    private(set) var loginEnd: LoginEnd?
    private(set) var parameters = LoginParameters()
    private(set) var parameterError: ISCSIError?
    /// The library has ended commands on its own, which it does when the connection broke.
    private(set) var hasCancelled = false
    /// The response to task management; nil while there is none.
    var managementResponse: UInt32?
    /// A NOP-Out is on its way.
    private(set) var isPingOutstanding = false
    private var isCancelling = false
    private var hasSaidGoodbye = false

    /// Makes a context; nothing is sent yet.
    init(
        _ configuration: ISCSISessionConfiguration, owner: any LibraryConnectionOwner
    ) throws(ISCSIError) {
        Self.brokenPipesAreErrors
        guard cl_iscsi_load() == 0 else { throw .noLibrary }
        // SAFETY: the library copies every string that it is given.
        guard let context = unsafe iscsi_create_context(configuration.initiatorName) else {
            throw .outOfMemory
        }
        unsafe self.context = context
        unsafe self.owner = owner
        slots = LibrarySlots(count: configuration.maximumInFlight + Self.reservedSlots)
        configure(configuration)
    }

    /// The library writes with writev, which raises SIGPIPE at a connection that was reset.
    ///
    /// The corresponding C function is `signal`.
    private static let brokenPipesAreErrors: Void = {
        _ = signal(SIGPIPE, SIG_IGN)
    }()

    /// Slots that are kept for what the session itself asks for.
    private static let reservedSlots = 4

    deinit {
        precondition(isDestroyed, "a connection is destroyed before it goes")
    }

    private func configure(_ configuration: ISCSISessionConfiguration) {
        // SAFETY: the context is alive until `destroy`; every string is copied.
        unsafe iscsi_set_noautoreconnect(context, 1)
        unsafe iscsi_set_timeout(context, 0)
        unsafe iscsi_set_targetname(context, configuration.targetName)
        unsafe iscsi_set_session_type(context, ISCSI_SESSION_NORMAL)
        let identifier = configuration.sessionIdentifier
        unsafe iscsi_set_isid_random(
            context, UInt32(truncatingIfNeeded: identifier >> 16) & 0xFF_FFFF,
            UInt32(truncatingIfNeeded: identifier) & 0xFFFF)
        let digest =
            switch configuration.headerDigest {
            case .optional: ISCSI_HEADER_DIGEST_NONE_CRC32C
            case .off: ISCSI_HEADER_DIGEST_NONE
            case .required: ISCSI_HEADER_DIGEST_CRC32C
            }
        unsafe iscsi_set_header_digest(context, digest)
        if let us = configuration.credentials {
            unsafe iscsi_set_initiator_username_pwd(context, us.user, us.secret.text)
        }
        if let target = configuration.targetCredentials {
            unsafe iscsi_set_target_username_pwd(context, target.user, target.secret.text)
        }
        let unacknowledged = configuration.timeouts.unacknowledged.wholeNanoseconds / 1_000_000
        unsafe iscsi_set_tcp_user_timeout(context, Int32(clamping: unacknowledged))
        unsafe iscsi_set_log_level(context, 6)
        unsafe iscsi_set_log_fn(context, LibraryLog.function)
    }

    // MARK: Connecting

    /// The library's name for this object; it is alive while the library runs.
    private var pointer: UnsafeMutableRawPointer {
        unsafe Unmanaged.passUnretained(self).toOpaque()
    }

    /// Begins to connect; `connectSucceeded` tells how it went.
    ///
    /// - Parameter address: a numeric address with its port, so that nothing is looked up.
    /// - Returns: nil, or why it cannot even begin.
    func connect(to address: String) -> String? {
        var code: Int32 = 0
        collectParameters {
            code = unsafe iscsi_connect_async(
                context, address,
                { _, status, _, object in
                    unsafe LibraryConnection.at(object) { $0.connectEnded(status) }
                }, pointer)
        }
        return code == 0 ? nil : errorText
    }

    private func connectEnded(_ status: Int32) {
        connectSucceeded = status == 0
        // The library says something else as soon as this returns.
        if status != 0 { connectError = errorText }
    }

    /// Begins the login; `loginEnd` tells how it went.
    ///
    /// - Returns: false when it cannot even begin.
    func logIn() -> Bool {
        var code: Int32 = 0
        collectParameters {
            code = unsafe iscsi_login_async(
                context,
                { _, status, _, object in
                    unsafe LibraryConnection.at(object) { $0.loginEnded(status) }
                },
                pointer)
        }
        return code == 0
    }

    private func loginEnded(_ status: Int32) {
        switch status {
        case 0: loginEnd = .succeeded
        case Int32(SCSI_STATUS_REDIRECT.rawValue): loginEnd = .redirected
        default: loginEnd = .failed
        }
    }

    /// Ends the library's chatter once the login is through.
    func becomeQuiet() {
        // SAFETY: the context is alive; without a function nothing is formatted.
        unsafe iscsi_set_log_fn(context, nil)
        unsafe iscsi_set_log_level(context, 0)
    }

    private func collectParameters(_ call: () -> Void) {
        for line in LibraryLog.collect(call) {
            do {
                try parameters.take(line)
            } catch {
                parameterError = error
            }
        }
    }

    /// Says goodbye without waiting for the answer.
    func logOut() {
        // SAFETY: the context is alive; without a callback nobody is told.
        guard unsafe iscsi_logout_async(context, nil, nil) == 0 else { return }
        hasSaidGoodbye = true
        _ = unsafe iscsi_service(context, Int32(POLLOUT))
    }

    /// Frees the context and closes the socket, which must be out of the loop by then.
    ///
    /// Commands under way are forgotten; take them from the slots before. Without a goodbye the
    /// kernel forgets them as well: it would deliver what it still holds when the network is back,
    /// after the same has been sent again, and the target would do old writes over new ones.
    func destroy() {
        if isDestroyed { return }
        isDestroyed = true
        if !hasSaidGoodbye { resetOnClose() }
        becomeQuiet()
        // SAFETY: nothing uses the context afterwards; callbacks that the library makes in here
        // find `isDestroyed`.
        _ = unsafe iscsi_destroy_context(context)
        slots.freeAll()
    }

    /// Has the kernel throw away what it has not delivered, as soon as the socket is closed.
    ///
    /// The corresponding C function is `setsockopt`.
    private func resetOnClose() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        // SAFETY: the kernel reads the local, of the length that is given with it.
        _ = unsafe setsockopt(
            descriptor, SOL_SOCKET, SO_LINGER, &linger,
            socklen_t(MemoryLayout<Glibc.linger>.size))
    }

    // MARK: Serving

    /// The socket; -1 when there is none.
    var descriptor: Int32 { unsafe iscsi_get_fd(context) }

    /// What the library waits for.
    var interest: Interest {
        Interest(rawValue: UInt32(bitPattern: unsafe iscsi_which_events(context)))
    }

    var isLoggedIn: Bool { unsafe iscsi_is_logged_in(context) != 0 }

    /// Lets the library read and write.
    ///
    /// - Returns: false when the connection is broken.
    func serve(_ readiness: Readiness) -> Bool {
        var events = readiness
        // The library gives up at a hang-up; what the target said before it hung up comes first.
        if connectSucceeded == true, events.contains(.readable) {
            events.subtract([.error, .hangUp])
        }
        let bits = Int32(bitPattern: events.rawValue)
        var code: Int32 = 0
        if loginEnd == .succeeded {
            // SAFETY: the context is alive; callbacks only take note, or tell the owner.
            code = unsafe iscsi_service(context, bits)
        } else {
            collectParameters { code = unsafe iscsi_service(context, bits) }
        }
        return code == 0 && !hasCancelled && (loginEnd != .succeeded || isLoggedIn)
    }

    /// Sends what is queued, as far as the socket and the target's window take it.
    func flush() -> Bool {
        interest.contains(.writable) ? serve(.writable) : true
    }

    /// Nothing waits to be sent.
    var isDrained: Bool {
        queuedCount == 0 && !interest.contains(.writable)
    }

    /// Commands wait for the target's window (RFC 7143 §4.2.2.1), not for the socket.
    var isWindowClosed: Bool {
        !interest.contains(.writable) && queuedCount > 0
    }

    /// What the library has not sent yet: commands and trains of data.
    var queuedCount: Int { Int(unsafe iscsi_out_queue_length(context)) }

    /// What went wrong last, in the library's words.
    var errorText: String {
        // SAFETY: a C string within the context; copied at once.
        guard let text = unsafe iscsi_get_error(context) else { return "unknown" }
        return LibraryErrorText.plain(unsafe String(cString: text))
    }

    /// Where the target sends us (TargetAddress).
    var redirection: String {
        // SAFETY: as above.
        guard let text = unsafe iscsi_get_target_address(context) else { return "" }
        return unsafe String(cString: text)
    }

    /// The login status, which the library shows only at the end of its error text.
    var loginStatus: UInt16? {
        guard let text = unsafe iscsi_get_error(context) else { return nil }
        let line = unsafe String(cString: text)
        guard line.contains("Status:"), let number = LibraryErrorText.trailingNumber(line) else {
            return nil
        }
        return UInt16(exactly: number)
    }

    // MARK: Commands

    /// Hands a command to the library.
    ///
    /// - Returns: false when the library does not take it, or no slot is free.
    func issue(_ command: ISCSICommand, lun: Int32) -> Bool {
        guard let index = slots.take(command) else { return false }
        // SAFETY: the slot's task stays at its address until it is freed, which is after the
        // library has called back or the context is gone.
        let code = unsafe iscsi_scsi_command_async(
            context, lun, slots.task(index),
            { _, status, task, object in
                unsafe LibraryConnection.at(object) { unsafe $0.taskEnded(status, task) }
            }, nil, pointer)
        if code != 0 { slots.free(index) }
        return code == 0
    }

    private func taskEnded(_ status: Int32, _ task: UnsafeMutableRawPointer?) {
        guard !isDestroyed, let task = unsafe task, let index = unsafe slots.index(of: task) else {
            return
        }
        if isCancelling { return }
        if status >= Int32(SCSI_STATUS_CANCELLED.rawValue) {
            // The slot stays taken: the session collects it when it buries the connection.
            hasCancelled = true
            if status == Int32(SCSI_STATUS_ERROR.rawValue) { slots.blame(index) }
            return
        }
        slots.finish(index) { command, residual, data in
            // SAFETY: the session holds this connection while the library runs.
            unsafe owner.commandEnded(command, status: status, residual, data: data)
        }
    }

    /// Takes a command back from the library, after the target has said that it is gone.
    ///
    /// To be called only while nothing is being sent, outside of any callback.
    func withdraw(_ index: Int) {
        isCancelling = true
        // SAFETY: the task is known to the library; it frees what it holds for it, nothing of ours.
        _ = unsafe iscsi_scsi_cancel_task(context, slots.task(index))
        isCancelling = false
        slots.free(index)
    }

    /// Sends a task management request; `managementResponse` tells how it went.
    ///
    /// - Parameters:
    ///   - function: what the target is asked to do.
    ///   - lun: as it stands in the protocol's field.
    ///   - index: the slot of the command that is meant; nil for all.
    /// - Returns: false when the library does not take it.
    func manage(_ function: iscsi_task_mgmt_funcs, lun: Int32, index: Int?) -> Bool {
        managementResponse = nil
        let (tag, number) = index.map { slots.identity($0) } ?? (0xFFFF_FFFF, 0)
        // SAFETY: the response is one word, read within the callback. The plain function is used
        // because those that are named for their purpose cancel every task at once.
        return unsafe iscsi_task_mgmt_async(
            context, lun, function, tag, number,
            { _, status, data, object in
                let response = unsafe data?.load(as: UInt32.self)
                unsafe LibraryConnection.at(object) {
                    $0.managementResponse = status == 0 ? response ?? 0xFF : 0xFF
                }
            }, pointer) == 0
    }

    /// Sends a NOP-Out.
    func ping() -> Bool {
        let code = unsafe iscsi_nop_out_async(
            context,
            { _, _, _, object in
                unsafe LibraryConnection.at(object) { $0.isPingOutstanding = false }
            }, nil, 0, pointer)
        isPingOutstanding = code == 0
        return code == 0
    }

    /// Calls `body` with the connection that a callback is for, unless it is destroyed.
    @inline(__always)
    private static func at(
        _ object: UnsafeMutableRawPointer?, _ body: (LibraryConnection) -> Void
    ) {
        guard let object = unsafe object else { return }
        // SAFETY: the session holds the connection while the library runs.
        unsafe Unmanaged<LibraryConnection>.fromOpaque(object)._withUnsafeGuaranteedRef {
            if !$0.isDestroyed { body($0) }
        }
    }
}
