// SPDX-License-Identifier: Apache-2.0

/// How a logical unit ended a command (SAM-5, Status codes).
public enum Status: UInt8, Sendable {
    case good = 0x00
    case checkCondition = 0x02
    case conditionMet = 0x04
    case busy = 0x08
    case reservationConflict = 0x18
    case taskSetFull = 0x28
    case taskAborted = 0x40
}

/// Whether a status came back at all, and why not (SAM-5, Service response).
public enum ServiceResponse: UInt8, Sendable {
    /// The logical unit ended the command; its status says how.
    case complete
    /// There is no such target.
    case badTarget
    /// A task management function ended the command.
    case aborted
    /// A reset ended the command.
    case reset
    /// The logical unit has gone while the command was under way.
    case targetFailure
    /// The way to the logical unit is interrupted.
    case transportFailure
}

/// When a command may run, compared with the others of its task set (SAM-5, Task attributes).
public enum TaskAttribute: UInt8, Sendable {
    case simple = 0
    case ordered = 1
    case headOfQueue = 2
    case automaticContingentAllegiance = 3
}
