// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// What an initiator asks of a logical unit: a CDB, and where the data go.
public struct CommandRequest {
    public var attribute = TaskAttribute.simple
    public var cdb = CDB(words: (0, 0, 0, 0))
    /// Bytes of the CDB that the initiator gave, at most 32 of which are in `cdb`.
    public var cdbByteCount = CDB.byteLimit
    /// Where to read what the initiator sends; valid until the command has ended.
    public var dataOut: IOVectorSlice?
    /// Bytes that the initiator sends.
    public var dataOutByteCount = 0
    /// Where to write what the initiator is sent; valid until the command has ended.
    public var dataIn: IOVectorSlice?
    /// Bytes that the initiator has room for.
    public var dataInByteCount = 0

    public init() {}
}
