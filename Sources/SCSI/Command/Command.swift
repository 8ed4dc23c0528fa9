// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// A command under way: what the transport brought, how far it has come, how it ended.
///
/// Lives in a `CommandTable` and is used again and again, so that a command costs no allocation.
/// Everything a transport fills in must be set each time; `CommandTable.reserve` resets the rest.
public struct Command: ~Copyable {
    // MARK: Brought by the transport

    /// Which target and logical unit.
    public var address = LUNAddress(rawValue: 0)
    /// Names the command to task management, not uniquely.
    public var tag: UInt64 = 0
    public var request = CommandRequest()

    @inline(__always)
    public var attribute: TaskAttribute { request.attribute }
    @inline(__always)
    public var cdb: CDB { request.cdb }
    @inline(__always)
    public var cdbByteCount: Int { request.cdbByteCount }
    @inline(__always)
    public var dataOut: IOVectorSlice? { request.dataOut }
    @inline(__always)
    public var dataOutByteCount: Int { request.dataOutByteCount }
    @inline(__always)
    public var dataIn: IOVectorSlice? { request.dataIn }
    @inline(__always)
    public var dataInByteCount: Int { request.dataInByteCount }

    // MARK: Told to the transport

    public internal(set) var response = ServiceResponse.complete
    public internal(set) var status = Status.good
    /// Sense data; meant only when the status is CHECK CONDITION.
    public internal(set) var sense: [UInt8] = []
    /// Which way the command moves data.
    public internal(set) var direction = Direction.none
    /// Bytes that the command wanted to move, whatever the initiator's buffer.
    public internal(set) var demandedByteCount = 0
    /// Bytes that were moved, from the start of the initiator's buffer.
    public internal(set) var movedByteCount = 0

    /// Whether the command wanted to move more than the initiator's buffer holds.
    @inline(__always)
    public var isOverrun: Bool { demandedByteCount > bufferByteCount }

    /// Bytes of the initiator's buffer that were not moved, or bytes that it was too short by.
    @inline(__always)
    public var residualByteCount: Int {
        isOverrun
            ? demandedByteCount &- bufferByteCount : bufferByteCount &- movedByteCount
    }

    /// Bytes of the buffer that the command's data go through; of the one there is when it moves
    /// none.
    @inline(__always)
    private var bufferByteCount: Int {
        switch direction {
        case .in: dataInByteCount
        case .out: dataOutByteCount
        case .none: max(dataInByteCount, dataOutByteCount)
        }
    }

    /// Which way data go, as the initiator sees it.
    public enum Direction: UInt8, Sendable {
        case none, `in`, out
    }

    // MARK: Kept by the table, the task set and the logical unit

    /// The way to the logical unit; nil when there is no such target.
    var path: BorrowedReference<ITLNexus>?
    var state = State.free
    /// What the command is answered with as soon as nothing works on it any more; `.complete`
    /// while nobody has aborted it.
    var abortResponse = ServiceResponse.complete
    /// The neighbours in the task set, or the next in the list of free or of ended commands.
    var previous = -1
    var next = -1
    /// The blocks that the command touches.
    var extent = BlockExtent(first: 0, count: 0)
    /// Whether no other command may touch those blocks meanwhile.
    var isExclusive = false
    /// Whether no other thread may touch the medium until the command has ended.
    var holdsGate = false
    /// Whether the place is for commands that other threads have taken.
    var isApart = false
    /// Requests of the store that are still under way.
    var pendingPartCount = 0
    /// How the first request of the store that failed ended.
    var partFailure: PartFailure?
    /// A list for the pieces of a buffer that is longer than what the command moves.
    var trimmedPieces = IOVectorArray(capacity: 1)

    /// How far a command has come.
    enum State: UInt8 {
        case free, reserved, waiting, running, ended
    }
}

/// Consecutive logical blocks.
struct BlockExtent: BitwiseCopyable, Equatable {
    var first: UInt64
    var count: UInt64

    /// Whether the two share a block; both lie within a disk, so that nothing overflows.
    func overlaps(_ other: BlockExtent) -> Bool {
        count > 0 && other.count > 0 && first < other.first &+ other.count
            && other.first < first &+ count
    }
}
