// SPDX-License-Identifier: Apache-2.0

public import BlockStorage
import LinuxIO

/// A direct access block device (SBC-3) over a block store.
///
/// Lives on its device's thread.
public final class Disk: LogicalUnit, BlockRequestOwner {
    /// How the disk introduces itself.
    public let identity: DiskIdentity
    public let taskSet = TaskSet()

    let store: any BlockStore
    /// Whether the store, or whoever configured the disk, refuses writes.
    let isReadOnly: Bool
    /// Whether initiators may eject the medium.
    let isRemovable: Bool
    /// Whether one of them has.
    var isMediumEjected = false
    /// The nexuses that do not let them.
    var removalPreventers: Set<ObjectIdentifier> = []
    /// What takes the place of the store's own; nil for none.
    private let physicalBlockSize: Int?
    let state: Cell<State>
    /// Commands that go through several steps, by their indices.
    var operations: [Int: BlockOperation] = [:]
    /// The nexuses that can reach the disk.
    var paths: [ITLNexus] = []
    /// The nexus that RESERVE has reserved the disk for.
    weak var reservedFor: ITLNexus?
    /// What is kept, as this service has seen it last.
    var kept = DiskState()
    var stateKeeper: (any DiskStateKeeper)?
    /// Changes of what is kept that have not ended.
    var exchangeCount = 0
    /// The commands that wait for changes, and the numbers of those.
    var changingCommands: [Int: UInt64] = [:]
    var lastChange: UInt64 = 0
    /// The last message that the nexuses here were told.
    var seenMessage: UInt64 = 0
    /// Whether what is kept could not be read, while the commands that waited for it end.
    var isStateUnreadable = false
    /// The last copy whose result was not asked for.
    var lastCopy: CopyResult?
    var sanitizing = SanitizeState.idle
    /// How the sanitize operation has ended that the command at this index waits for.
    var endedSanitizing: (index: Int, outcome: BlockOutcome)?
    /// What `State.commands` borrows.
    private(set) var table: CommandTable?

    /// What commands are checked against; changed in place.
    struct State {
        var geometry: BlockGeometry
        var blockShift: UInt64
        /// Where the commands under way stand.
        var commands: BorrowedReference<CommandTable>?
        /// Whether something keeps the commands of every nexus off: then each goes the long way
        /// through the table.
        var isRestricted = false
        /// Whether other threads may read and write the medium at times.
        var hasGate = false
        var modes = DiskModes()
        /// Counts the changes of what is kept, by whatever service, and what it said of `kept`.
        var changes = SharedCounter.constant
        var seenChanges: UInt64 = 0
    }

    /// A disk.
    ///
    /// - Parameters:
    ///   - store: what lies behind it; nobody else submits to it.
    ///   - identity: how it introduces itself.
    ///   - isReadOnly: whether writes are refused even if the store takes them.
    ///   - physicalBlockSize: bytes that initiators are told the medium writes at once, a multiple
    ///     of the block size; nil for what the store says.
    ///   - isRemovable: whether initiators may eject the medium.
    public init(
        store: any BlockStore, identity: DiskIdentity, isReadOnly: Bool = false,
        physicalBlockSize: Int? = nil, isRemovable: Bool = false
    ) {
        self.store = store
        self.identity = identity
        self.isReadOnly = isReadOnly || store.isReadOnly
        self.isRemovable = isRemovable
        self.physicalBlockSize = physicalBlockSize
        let geometry = Self.geometry(of: store, physicalBlockSize: physicalBlockSize)
        state = Cell(
            State(
                geometry: geometry,
                blockShift: UInt64(geometry.blockSize.trailingZeroBitCount)))
    }

    private static func geometry(
        of store: any BlockStore, physicalBlockSize: Int?
    ) -> BlockGeometry {
        var geometry = store.geometry
        if let physicalBlockSize {
            geometry.physicalBlockSize = max(geometry.blockSize, physicalBlockSize)
        }
        return geometry
    }

    /// Takes the shape of the medium over as the store has it now.
    func takeGeometry() {
        gateKeeper?.close()
        state.value.geometry = Self.geometry(of: store, physicalBlockSize: physicalBlockSize)
    }

    /// The shape of the medium as initiators have been told.
    var geometry: BlockGeometry { state.value.geometry }

    /// Whether the medium has blocks that are not there until they are written.
    var isThin: Bool { state.value.geometry.discardGranularity > 0 }

    public var senseFormat: Sense.Format { state.value.modes.senseFormat }

    // MARK: Commands

    @inline(__always)
    public func execute(_ index: Int, in commands: CommandTable, over path: ITLNexus) {
        if state.value.hasGate, waitsForGate(index, in: commands) { return }
        if path.isUnhindered, !state.value.isRestricted, !isStateStale,
            transferPlainly(index, in: commands)
        {
            return
        }
        executeByTable(Execution(index: index, commands: commands, path: path))
    }

    @inline(never)
    private func executeByTable(_ execution: Execution) {
        // A SANITIZE that has ended is told of its outcome now or never.
        if isStateStale, endedSanitizing?.index != execution.index {
            return waitForState(execution)
        }
        let cdb = execution.cdb
        let operation = Self.operation(of: cdb, on: self)
        if operation?.yieldsToUnitAttention ?? true,
            let attention = execution.path.takeUnitAttention()
        {
            return execution.fail(attention.sense)
        }
        guard let operation else { return execution.fail(unknownOperation(cdb)) }
        if let sense = sanitizeSense(for: operation, execution) { return execution.fail(sense) }
        if conflictsWithReservation(operation, execution) {
            return execution.commands.end(execution.index, status: .reservationConflict)
        }
        if let sense = operation.illegalField(of: cdb) { return execution.fail(sense) }
        if operation.usage.count > execution.commands[execution.index].cdbByteCount {
            return execution.fail(.invalidFieldInCDB(byte: operation.usage.count - 1))
        }
        if isMediumEjected && operation.needsMedium {
            return execution.fail(Sense(.notReady, .mediumNotPresent))
        }
        if operation.access == .writes, isWriteProtected {
            return execution.fail(Sense(.dataProtect, .writeProtected))
        }
        if operation.access != .none, endsForLackOfRoom(execution) { return }
        operation.execute(self, execution)
    }

    /// Ends a command that would go through memory of ours while too many do already.
    func endsForLackOfRoom(_ execution: Execution) -> Bool {
        guard operations.count >= DiskLimits.operationCount else { return false }
        execution.commands.end(execution.index, status: .taskSetFull)
        return true
    }

    /// An operation code that the disk does not have, or one that it has with other service actions.
    private func unknownOperation(_ cdb: CDB) -> Sense {
        let isKnown = Self.operations.contains {
            $0.code == cdb.operationCode && $0.isSupported(self)
        }
        return isKnown
            ? .invalidFieldInCDB(byte: 1, bit: 4)
            : Sense(.illegalRequest, .invalidOperationCode)
    }

    /// The row of the table that a CDB means.
    static func operation(of cdb: CDB, on disk: Disk) -> Operation? {
        operationsByCode[Int(cdb.operationCode)].first {
            $0.matches(cdb) && $0.isSupported(disk)
        }
    }

    /// Whether writes are refused: for good, or by the SWP bit.
    var isWriteProtected: Bool { isReadOnly || state.value.modes.isSoftwareWriteProtected }

    public func reset() {
        gateKeeper?.close()
        state.value.modes = savedModes ?? DiskModes()
        removalPreventers = []
        endReservation()
    }

    // MARK: Nexuses

    public func attached(_ path: ITLNexus, commands: CommandTable) {
        gateKeeper?.close()
        paths.append(path)
        table = commands
        state.value.commands = BorrowedReference(commands)
        restrictionsChanged()
    }

    public func detached(_ path: ITLNexus) {
        gateKeeper?.close()
        nexusLost(path)
        paths.removeAll { $0 === path }
    }

    public func nexusLost(_ path: ITLNexus) {
        removalPreventers.remove(ObjectIdentifier(path))
        if lastCopy?.path == ObjectIdentifier(path) { lastCopy = nil }
        if reservedFor === path { endReservation() }
    }

    /// The store's geometry may have changed: initiators are told of a new capacity.
    ///
    /// - Returns: whether the capacity is a new one.
    @discardableResult
    public func refreshGeometry(on bus: SCSIBus) -> Bool {
        let old = state.value.geometry.blockCount
        takeGeometry()
        guard state.value.geometry.blockCount != old else { return false }
        bus.raise(.capacityChanged, for: self)
        return true
    }

    /// Ends the store after the requests that are under way.
    public func close() {
        gateKeeper?.bar()
        forgetKeeper()
        store.close()
    }
}
