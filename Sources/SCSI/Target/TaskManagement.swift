// SPDX-License-Identifier: Apache-2.0

/// What an initiator asks of the task manager (SAM-5, Task management functions).
public enum TaskManagementFunction: Sendable {
    case abortTask
    case abortTaskSet
    case clearACA
    case clearTaskSet
    case iTNexusReset
    case logicalUnitReset
    case queryTask
    case queryTaskSet
}

/// How a task management function ended (SAM-5, Task management service response).
public enum TaskManagementResponse: Sendable {
    case functionComplete
    case functionSucceeded
    case functionRejected
    case incorrectLUN
    case badTarget
}

/// A task management function under way: it ends when the commands that it aborts have ended.
///
/// Lives on its device's thread.
public final class TaskManagement {
    /// Given by the transport, to know its request by.
    public let token: UInt64
    /// How it ended.
    public internal(set) var response = TaskManagementResponse.functionComplete
    /// Commands whose end is waited for.
    var remainingCount = 0

    init(token: UInt64) {
        self.token = token
    }
}
