// SPDX-License-Identifier: Apache-2.0

/// An additional sense code and its qualifier (SPC-4, ASC and ASCQ assignments).
public struct AdditionalSense: Equatable, Sendable {
    public let code: UInt8
    public let qualifier: UInt8

    public init(_ code: UInt8, _ qualifier: UInt8) {
        self.code = code
        self.qualifier = qualifier
    }

    /// NO ADDITIONAL SENSE INFORMATION.
    public static let none = AdditionalSense(0x00, 0x00)
    /// LOGICAL UNIT IS IN PROCESS OF BECOMING READY.
    public static let becomingReady = AdditionalSense(0x04, 0x01)
    /// LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS.
    public static let sanitizeInProgress = AdditionalSense(0x04, 0x1B)
    /// WRITE ERROR.
    public static let writeError = AdditionalSense(0x0C, 0x00)
    /// COPY TARGET DEVICE NOT REACHABLE.
    public static let copyTargetNotReachable = AdditionalSense(0x0D, 0x02)
    /// UNRECOVERED READ ERROR.
    public static let unrecoveredReadError = AdditionalSense(0x11, 0x00)
    /// PARAMETER LIST LENGTH ERROR.
    public static let parameterListLengthError = AdditionalSense(0x1A, 0x00)
    /// MISCOMPARE DURING VERIFY OPERATION.
    public static let miscompareDuringVerify = AdditionalSense(0x1D, 0x00)
    /// INVALID COMMAND OPERATION CODE.
    public static let invalidOperationCode = AdditionalSense(0x20, 0x00)
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    public static let blockAddressOutOfRange = AdditionalSense(0x21, 0x00)
    /// INVALID FIELD IN CDB.
    public static let invalidFieldInCDB = AdditionalSense(0x24, 0x00)
    /// LOGICAL UNIT NOT SUPPORTED.
    public static let logicalUnitNotSupported = AdditionalSense(0x25, 0x00)
    /// INVALID FIELD IN PARAMETER LIST.
    public static let invalidFieldInParameterList = AdditionalSense(0x26, 0x00)
    /// TOO MANY TARGET DESCRIPTORS.
    public static let tooManyTargetDescriptors = AdditionalSense(0x26, 0x06)
    /// UNSUPPORTED TARGET DESCRIPTOR TYPE CODE.
    public static let unsupportedTargetDescriptor = AdditionalSense(0x26, 0x07)
    /// TOO MANY SEGMENT DESCRIPTORS.
    public static let tooManySegmentDescriptors = AdditionalSense(0x26, 0x08)
    /// UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE.
    public static let unsupportedSegmentDescriptor = AdditionalSense(0x26, 0x09)
    /// INVALID RELEASE OF PERSISTENT RESERVATION.
    public static let invalidRelease = AdditionalSense(0x26, 0x04)
    /// WRITE PROTECTED.
    public static let writeProtected = AdditionalSense(0x27, 0x00)
    /// SPACE ALLOCATION FAILED WRITE PROTECT.
    public static let spaceAllocationFailed = AdditionalSense(0x27, 0x07)
    /// SANITIZE COMMAND FAILED.
    public static let sanitizeCommandFailed = AdditionalSense(0x31, 0x03)
    /// SAVING PARAMETERS NOT SUPPORTED.
    public static let savingParametersNotSupported = AdditionalSense(0x39, 0x00)
    /// MEDIUM NOT PRESENT.
    public static let mediumNotPresent = AdditionalSense(0x3A, 0x00)
    /// MEDIUM REMOVAL PREVENTED.
    public static let mediumRemovalPrevented = AdditionalSense(0x53, 0x02)
    /// INTERNAL TARGET FAILURE.
    public static let internalTargetFailure = AdditionalSense(0x44, 0x00)
    /// OVERLAPPED COMMANDS ATTEMPTED.
    public static let overlappedCommands = AdditionalSense(0x4E, 0x00)
    /// INSUFFICIENT REGISTRATION RESOURCES.
    public static let insufficientRegistrationResources = AdditionalSense(0x55, 0x04)
}
