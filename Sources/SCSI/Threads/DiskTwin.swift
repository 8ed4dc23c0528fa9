// SPDX-License-Identifier: Apache-2.0

public import BlockStorage
import LinuxIO

/// What another thread than a disk's has of it: a way to the medium, and a lane of the gate.
///
/// Executes what is plain, as long as the gate lets it through. Everything else is the disk's, and so is
/// what fails here: the disk executes it again and says exactly what is wrong.
///
/// Lives on the other thread.
public final class DiskTwin {
    let gate: UnitGate
    private let lane: GateLane
    private let store: any BlockStore
    private let blockShift: UInt64
    private let constraints = Cell(0)

    /// A twin.
    ///
    /// - Parameters:
    ///   - gate: the disk's.
    ///   - laneNumber: which lane is this thread's.
    ///   - store: a way of this thread to the medium; nobody else submits to it.
    ///   - blockShift: the disk's.
    public init(gate: UnitGate, laneNumber: Int, store: any BlockStore, blockShift: UInt64) {
        self.gate = gate
        lane = gate.lanes[laneNumber]
        self.store = store
        self.blockShift = blockShift
    }

    /// Commands of this thread that the disk has not answered, and that later ones must not pass.
    @inline(__always)
    public var constraintCount: Int {
        get { constraints.value }
        set { constraints.value = newValue }
    }

    /// What was begun.
    public struct Transfer: BitwiseCopyable {
        public let byteCount: Int
        public let isRead: Bool
    }

    /// Begins a plain read or write.
    ///
    /// - Parameters:
    ///   - request: its pieces stay valid and mapped until the owner is called.
    ///   - owner: is called when the medium has answered; then calls `end`.
    ///   - token: handed back to the owner.
    /// - Returns: nil when it is the disk's to do; nothing was begun then.
    @inline(__always)
    public func begin(
        _ request: CommandRequest, owner: any BlockRequestOwner, token: UInt64
    ) -> Transfer? {
        guard constraintCount == 0, request.attribute == .simple,
            let transfer = PlainTransfer(request.cdb, byteCount: request.cdbByteCount)
        else { return nil }
        let isRead = transfer.isRead
        // FUA: the disk knows what a flush that fails means for later ones.
        if !isRead && request.cdb[1] & 0x08 != 0 { return nil }
        let byteCount = Int(truncatingIfNeeded: transfer.count << blockShift)
        guard byteCount == (isRead ? request.dataInByteCount : request.dataOutByteCount),
            byteCount <= DiskLimits.transferByteCount
        else { return nil }
        guard let blockCount = gate.enter(lane, isRead ? .reads : .writes) else { return nil }
        guard transfer.isWithin(blockCount: blockCount) else {
            gate.leave(lane)
            return nil
        }
        store.submit(
            BlockRequest(
                isRead ? .read : .write(isDurable: false), offset: transfer.first << blockShift,
                byteCount: byteCount, pieces: isRead ? request.dataIn : request.dataOut),
            owner: owner, token: token)
        return Transfer(byteCount: byteCount, isRead: isRead)
    }

    /// Ends what was begun: done and answered, or left to the disk.
    @inline(__always)
    public func end(_ transfer: Transfer, isDone: Bool) {
        if isDone { lane.count(byteCount: transfer.byteCount, isRead: transfer.isRead) }
        gate.leave(lane)
    }

    /// What stands for a transfer that was begun and has failed: as long as it is not left, the
    /// transfer counts as under way.
    public var pass: GatePass { GatePass(gate: gate, lane: lane) }

    /// Notes how long one of several transfers took.
    public func note(microseconds: UInt64) {
        lane.add(microseconds: microseconds)
    }

    /// Whether nothing is under way that will come back to the twin.
    var isIdle: Bool { constraintCount == 0 && lane.underWayCount == 0 }

    /// Ends the way to the medium after what is under way.
    public func close() {
        store.close()
    }
}
