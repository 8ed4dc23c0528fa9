// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// SANITIZE (SBC-3): OVERWRITE, BLOCK ERASE and EXIT FAILURE MODE.
///
/// What is done to the medium is a `SanitizeOperation` of its own, because it goes on whatever
/// becomes of the command: resets and aborts do not stop it. The command waits for it in the task
/// set, or with IMMED has ended before. Until the operation has ended, and after it has failed,
/// commands that would touch the medium are refused.
extension Disk {
    /// What SANITIZE has left the disk in.
    enum SanitizeState {
        case idle
        case running(SanitizeOperation)
        /// A failed operation; without AUSE only a successful one ends this.
        case failed(allowsExit: Bool)
    }

    /// BLOCK ERASE: every block reads as zeroes afterwards, and its space is free.
    func eraseBlocks(_ execution: Execution) {
        if waitsForSanitizing(execution) { return }
        guard execution.cdb.uint16(at: 7) == 0 else {
            return execution.fail(.invalidFieldInCDB(byte: 7))
        }
        startSanitizing(.erase, execution)
    }

    /// OVERWRITE: a pattern over every block, as often as asked for.
    func overwriteBlocks(_ execution: Execution) {
        if waitsForSanitizing(execution) { return }
        let length = Int(execution.cdb.uint16(at: 7))
        guard length > 4, length <= geometry.blockSize + 4 else {
            return execution.fail(.invalidFieldInCDB(byte: 7))
        }
        guard let list = execution.parameterList(byteCount: length) else { return }
        let passCount = Int(list[0] & 0x1F)
        let patternLength = Int(list.bigEndian(UInt16.self, at: 2))
        guard list[0] & 0x60 == 0, passCount > 0 else {
            return execution.fail(.invalidFieldInParameterList(byte: 0))
        }
        guard patternLength > 0, patternLength <= length - 4 else {
            return execution.fail(.invalidFieldInParameterList(byte: 2))
        }
        let pattern = Array(list[4..<4 + patternLength])
        startSanitizing(
            .overwrite(pattern, passCount: passCount, inverts: list[0] & 0x80 != 0), execution)
    }

    /// EXIT FAILURE MODE: the disk is as usable as before the operation that failed.
    func exitSanitizeFailure(_ execution: Execution) {
        guard execution.cdb.uint16(at: 7) == 0 else {
            return execution.fail(.invalidFieldInCDB(byte: 7))
        }
        if case .failed(let allowsExit) = sanitizing {
            if !allowsExit { return execution.fail(.invalidFieldInCDB(byte: 1, bit: 4)) }
            sanitizing = .idle
            restrictionsChanged()
        }
        execution.succeed()
    }

    /// Whether the command has started an operation: it waits on, or ends as the operation did.
    private func waitsForSanitizing(_ execution: Execution) -> Bool {
        if isWaitingForSanitizing(execution) {
            taskSet.wait(execution.index, in: execution.commands)
            return true
        }
        guard let ended = endedSanitizing, ended.index == execution.index,
            execution.commands[execution.index].isExclusive
        else { return false }
        endedSanitizing = nil
        if ended.outcome == .done {
            execution.succeed()
        } else {
            execution.fail(Self.sanitizeFailed)
        }
        return true
    }

    /// A place is used again, but only a command that has claimed the medium is exclusive.
    private func isWaitingForSanitizing(_ execution: Execution) -> Bool {
        guard case .running(let operation) = sanitizing else { return false }
        return operation.index == execution.index
            && execution.commands[execution.index].isExclusive
    }

    private func startSanitizing(_ method: SanitizeOperation.Method, _ execution: Execution) {
        let index = execution.index
        let commands = execution.commands
        let whole = BlockExtent(first: 0, count: geometry.blockCount)
        guard taskSet.claim(whole, for: index, isExclusive: true, in: commands) else { return }
        let allowsExit = execution.cdb[1] & 0x20 != 0
        let operation = SanitizeOperation(method, on: self, index: index) { [weak self] outcome in
            self?.sanitizingEnded(outcome, allowsExit: allowsExit)
        }
        sanitizing = .running(operation)
        restrictionsChanged()
        operation.start()
        if execution.cdb[1] & 0x80 != 0 {
            execution.succeed()
        } else {
            taskSet.wait(index, in: commands)
        }
    }

    private func sanitizingEnded(_ outcome: BlockOutcome, allowsExit: Bool) {
        guard case .running(let operation) = sanitizing else { return }
        sanitizing = outcome == .done ? .idle : .failed(allowsExit: allowsExit)
        restrictionsChanged()
        endedSanitizing = (operation.index, outcome)
        state.value.commands?.with { taskSet.startWaiting(in: $0) }
        endedSanitizing = nil
    }

    private static let sanitizeFailed = Sense(.mediumError, .sanitizeCommandFailed)

    /// What keeps a command from being executed because of SANITIZE.
    func sanitizeSense(for operation: Operation, _ execution: Execution) -> Sense? {
        switch sanitizing {
        case .idle: return nil
        case .running:
            if operation.isAllowedWhileSanitizing || isWaitingForSanitizing(execution) {
                return nil
            }
            return sanitizeSense
        case .failed:
            let isSanitize = operation.code == OperationCode.sanitize
            return operation.isAllowedWhileSanitizing || isSanitize ? nil : sanitizeSense
        }
    }

    /// What REQUEST SENSE tells of SANITIZE.
    var sanitizeSense: Sense? {
        switch sanitizing {
        case .idle: return nil
        case .running(let operation):
            var sense = Sense(.notReady, .sanitizeInProgress)
            sense.progress = operation.progress
            return sense
        case .failed: return Self.sanitizeFailed
        }
    }
}

extension Operation {
    /// Whether SANITIZE leaves the command alone (SBC-3, Commands allowed during a sanitize
    /// operation).
    fileprivate var isAllowedWhileSanitizing: Bool {
        switch code {
        case OperationCode.inquiry, OperationCode.reportLUNs, OperationCode.requestSense,
            OperationCode.maintenanceIn, OperationCode.persistentReserveIn,
            OperationCode.readCapacity10:
            true
        case OperationCode.serviceActionIn16: serviceAction == 0x10
        default: false
        }
    }
}
