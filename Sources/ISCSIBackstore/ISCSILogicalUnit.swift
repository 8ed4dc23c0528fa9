// SPDX-License-Identifier: Apache-2.0

import LinuxIO
public import SCSI

/// A logical unit at an iSCSI target: commands pass through, and so do their answers.
///
/// What does not pass: REPORT LUNS, because the guest's LUNs are ours to number; CDBs of more than
/// 16 bytes, because libiscsi cannot carry them; and, where only reading is allowed, whatever is
/// not known to leave the medium alone.
///
/// Lives on its device's thread.
public final class ISCSILogicalUnit: AbandoningLogicalUnit {
    public let taskSet = TaskSet()
    /// Sense data of our own; the target's are passed on as they are.
    public let senseFormat = Sense.Format.fixed
    /// The way to the target.
    public let session: ISCSISession

    /// Whether whoever made the unit cannot do without it.
    public let isRequired: Bool

    private let isReadOnly: Bool
    /// Called once, when the session is up for the first time: there is something to attach now.
    private var whenReady: ((ISCSILogicalUnit) -> Void)?
    /// Who hears of changes of the unit.
    private weak var bus: SCSIBus?
    private let state = Cell(State())
    private var paths: [ITLNexus] = []

    /// What every command touches.
    private struct State {
        var commands: CommandTable?
        /// Unit attentions that the session has met, for the initiator: sense data, the oldest
        /// first.
        var attentions: [[UInt8]] = []
        /// The initiator has started anew, and nothing has come from it yet.
        var isNexusNew = false
    }

    /// Unit attentions that are kept; the oldest go first.
    private static let attentionLimit = 8

    /// A unit that nothing is known of yet; `session.start` has it looked for.
    ///
    /// - Parameters:
    ///   - session: nobody else submits to it.
    ///   - bus: where it is or will be attached.
    ///   - isReadOnly: whether writes are refused even if the target takes them.
    ///   - isRequired: kept for whoever made the unit.
    ///   - whenReady: called once, on the loop's thread, when the unit has been found.
    public init(
        session: ISCSISession, bus: SCSIBus, isReadOnly: Bool = false, isRequired: Bool = false,
        whenReady: @escaping (ISCSILogicalUnit) -> Void
    ) {
        self.session = session
        self.bus = bus
        self.isReadOnly = isReadOnly
        self.isRequired = isRequired
        self.whenReady = whenReady
        session.owner = self
    }

    deinit {
        session.owner = nil
    }

    /// Turns the loop until the units, all of this one's loop, have been found, side by side.
    ///
    /// To be called before the loop runs, by who cannot do without them. Returns early when the
    /// process is asked to stop: it will, as soon as it has started.
    ///
    /// - Throws: why one has not been found: at once when its target refuses us, else when the limit
    ///   has passed.
    public static func waitUntilReady(
        _ units: [ISCSILogicalUnit], within limit: Duration
    ) throws(ISCSIError) {
        guard let loop = units.first?.session.loop else { return }
        let end = loop.now.advanced(byNanoseconds: limit.wholeNanoseconds)
        while !ProcessEnvironment.isAskedToStop {
            for unit in units { if let refusal = unit.session.refusal { throw refusal } }
            guard let missing = units.first(where: { $0.session.phase != .up }) else { return }
            if loop.now > end { throw missing.session.lastError ?? .notReady(limit) }
            do {
                try loop.turn(waitingAtMost: .milliseconds(100))
            } catch {
                throw .notReady(limit)
            }
        }
    }

    /// Ends the session; commands under way fail.
    public func close() {
        session.close()
        // Each holds the unit.
        paths = []
    }

    // MARK: Commands

    public func execute(_ index: Int, in commands: CommandTable, over path: ITLNexus) {
        state.value.isNexusNew = false
        let operation = commands.commands[index].cdb.operationCode
        if reportsAttention(index, operation, in: commands, over: path) { return }
        switch operation {
        case PassThrough.reportLUNs: commands.reportLUNs(index, over: path)
        case PassThrough.extendedCDB, PassThrough.variableLengthCDB:
            commands.refuse(index, Sense(.illegalRequest, .invalidOperationCode))
        case _ where isReadOnly && !PassThrough.leavesMediumAlone(operation):
            commands.refuse(index, Sense(.dataProtect, .writeProtected))
        default: submit(index, in: commands)
        }
    }

    private func submit(_ index: Int, in commands: CommandTable) {
        let cdb = commands.commands[index].cdb
        var command = ISCSICommand(
            token: UInt64(index), cdb: (cdb.uint64(at: 0), cdb.uint64(at: 8)))
        if commands.commands[index].dataInByteCount > 0 {
            command.direction = .read
            command.byteCount = commands.commands[index].dataInByteCount
            command.pieces = commands.commands[index].dataIn
        } else if commands.commands[index].dataOutByteCount > 0 {
            command.direction = .write
            command.byteCount = commands.commands[index].dataOutByteCount
            command.pieces = commands.commands[index].dataOut
        }
        guard command.byteCount <= ISCSICommand.maximumByteCount else {
            return commands.refuse(index, Sense(.illegalRequest, .invalidFieldInCDB))
        }
        session.submit(command)
    }

    /// Answers a command with a unit attention, where there is one and the command yields to it
    /// (SPC-4, Unit attention condition).
    private func reportsAttention(
        _ index: Int, _ operation: UInt8, in commands: CommandTable, over path: ITLNexus
    ) -> Bool {
        if path.unitAttentions.isEmpty && state.value.attentions.isEmpty { return false }
        if PassThrough.ignoresAttentions(operation) { return false }
        if let attention = path.takeUnitAttention() {
            commands.refuse(index, Sense(.unitAttention, attention.additionalSense))
        } else {
            commands.end(
                index, status: .checkCondition, sense: state.value.attentions.removeFirst(),
                demanded: 0,
                moved: 0)
        }
        return true
    }

    public func abort(_ index: Int, in commands: CommandTable) {
        session.abort(token: UInt64(index))
    }

    public func abandon(_ index: Int) {
        session.abandon(token: UInt64(index))
    }

    // MARK: The nexus

    public func reset() {
        // A new nexus has nothing to set back; a reset would hit the other users of the unit.
        if state.value.isNexusNew {
            state.value.isNexusNew = false
        } else {
            session.reset()
        }
    }

    public func nexusLost(_ path: ITLNexus) {
        state.value.isNexusNew = true
        state.value.attentions = []
        session.reinstate()
    }

    public func attached(_ path: ITLNexus, commands: CommandTable) {
        paths.append(path)
        state.value.commands = commands
    }

    public func detached(_ path: ITLNexus) {
        paths.removeAll { $0 === path }
    }
}

extension ISCSILogicalUnit: ISCSISessionOwner {
    public func commandEnded(token: UInt64, _ outcome: ISCSIOutcome, data: RawSpan) {
        guard let commands = state.value.commands else { return }
        let index = Int(token)
        switch outcome {
        case .answered(let status, let residual):
            answered(index, Status(rawValue: status) ?? .busy, residual, data, in: commands)
        case .aborted:
            commands.interrupt(index, .aborted)
        case .nexusLost:
            commands.refuse(
                index, Sense(.unitAttention, UnitAttention.nexusLoss.additionalSense))
        case .transportFailed:
            commands.interrupt(index, .transportFailure)
        case .refused:
            commands.refuse(index, Sense(.abortedCommand, .none))
        }
    }

    private func answered(
        _ index: Int, _ status: Status, _ residual: ISCSIResidual, _ data: RawSpan,
        in commands: CommandTable
    ) {
        let room =
            commands.commands[index].dataInByteCount + commands.commands[index].dataOutByteCount
        var (demanded, moved) = (room, room)
        switch residual {
        case .none: break
        case .underflow(let missing): moved = max(0, room - missing)
        case .overflow(let excess): demanded = room + excess
        }
        guard status == .checkCondition else {
            if isReadOnly { showWriteProtection(index, in: commands) }
            if case .underflow = residual { demanded = moved }
            return commands.end(index, status: status, demanded: demanded, moved: moved)
        }
        var sense = SenseData.bytes(ofResponse: data)
        // A check condition without a cause would pass for success in some guests.
        if SenseData(sense) == nil { sense = Sense(.abortedCommand, .none).bytes(.fixed) }
        heed(sense)
        commands.end(index, status: status, sense: sense, demanded: moved, moved: moved)
    }

    /// Sets the WP bit of MODE SENSE data (SBC-3, DEVICE-SPECIFIC PARAMETER).
    private func showWriteProtection(_ index: Int, in commands: CommandTable) {
        guard let offset = PassThrough.parameterOffset(commands.commands[index].cdb.operationCode),
            let pieces = commands.commands[index].dataIn,
            let parameter = pieces.load(UInt8.self, at: offset)
        else { return }
        pieces.store(parameter | 0x80, at: offset)
    }

    /// Passes on what a unit attention is about by the transport's own ways.
    private func heed(_ sense: [UInt8]) {
        guard let data = SenseData(sense), data.key == SenseData.unitAttention else { return }
        let code = AdditionalSense(data.code, data.qualifier)
        for path in paths {
            guard let lun = path.lun else { continue }
            if code == UnitAttention.capacityChanged.additionalSense {
                bus?.observer?.unitChanged(target: path.target.number, lun: lun, code)
            } else if code == UnitAttention.reportedLUNsChanged.additionalSense {
                bus?.observer?.unitAttached(target: path.target.number, lun: lun)
            }
        }
    }

    public func sessionUp(_ session: ISCSISession, isSame: Bool) {
        if let whenReady {
            self.whenReady = nil
            return whenReady(self)
        }
        if isSame { return }
        let sense = Sense(.unitAttention, UnitAttention.capacityChanged.additionalSense)
        unitAttention(sense.bytes(.fixed))
    }

    public func sessionDown(_ session: ISCSISession) {}

    public func unitAttention(_ sense: [UInt8]) {
        heed(sense)
        state.value.attentions.append(sense)
        if state.value.attentions.count > Self.attentionLimit {
            state.value.attentions.removeFirst()
        }
    }
}
