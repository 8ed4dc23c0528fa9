// SPDX-License-Identifier: Apache-2.0

/// One row of the table of what a disk can do: a CDB, and what becomes of it.
struct Operation: Sendable {
    let name: String
    let code: UInt8
    /// For the CDBs that have one: what bits 4 to 0 of byte 1 must be.
    let serviceAction: UInt8?
    /// The bits of each byte of the CDB that mean something to the disk (SPC-4, CDB usage data);
    /// byte 0 is the operation code.
    ///
    /// The others must be zero.
    let usage: [UInt8]
    /// What it does to the medium.
    let access: Access
    /// What another nexus's reservation does to it.
    let reservation: ReservationRule
    /// Whether a unit attention condition keeps it from being executed.
    let yieldsToUnitAttention: Bool
    /// Whether a disk of this kind has it.
    let requirement: Requirement
    /// Executes it; the fields that are checked by table have been.
    let execute: @Sendable (Disk, Execution) -> Void

    enum Access: Sendable { case none, reads, writes }

    /// What a disk must be like to have an operation: thin provisioned, or no other service's, whose
    /// commands know nothing of those here.
    enum Requirement: Sendable { case nothing, thinProvisioning, soleService, both }

    /// What a reservation that another nexus holds does to a command (SPC-4 and SBC-3, Commands
    /// that are allowed in the presence of various reservations).
    enum ReservationRule: Sendable {
        /// Nothing.
        case alwaysAllowed
        /// Refused by RESERVE (SPC-2) only.
        case allowedUnderPersistent
        /// Refused where the reservation excludes readers.
        case reads
        /// Refused where the reservation excludes writers.
        case writes
    }

    func isSupported(_ disk: Disk) -> Bool {
        switch requirement {
        case .nothing: true
        case .thinProvisioning: disk.isThin
        case .soleService: !disk.isShared
        case .both: disk.isThin && !disk.isShared
        }
    }

    /// Whether a CDB is this operation.
    func matches(_ cdb: CDB) -> Bool {
        cdb.operationCode == code && (serviceAction == nil || serviceAction == cdb.serviceAction)
    }

    /// The bits of byte 1 in which SCSI-2 has the number of the logical unit.
    static let legacyLUNBits: UInt8 = 0xE0

    /// Whether the number of the logical unit may stand in byte 1.
    ///
    /// Linux, which takes a new target for one of SCSI-2 until that has answered, puts it there in
    /// what it asks first.
    private var mayNameLUN: Bool {
        code == OperationCode.inquiry || code == OperationCode.testUnitReady
            || code == OperationCode.requestSense
    }

    /// The first field that is not zero and should be.
    func illegalField(of cdb: CDB) -> Sense? {
        for byte in 1..<usage.count {
            var illegal = cdb[byte] & ~usage[byte]
            if byte == 1, mayNameLUN { illegal &= ~Self.legacyLUNBits }
            if illegal != 0 {
                return .invalidFieldInCDB(
                    byte: byte, bit: UInt8(7 - illegal.leadingZeroBitCount))
            }
        }
        return nil
    }
}

extension Operation {
    /// A row; `usage` begins with byte 1, and the bits of a service action are added.
    init(
        _ name: String, _ code: UInt8, _ serviceAction: UInt8? = nil, usage: [UInt8],
        access: Access = .none, reservation: ReservationRule, yieldsToUnitAttention: Bool = true,
        requires requirement: Requirement = .nothing,
        execute: @escaping @Sendable (Disk, Execution) -> Void
    ) {
        self.name = name
        self.code = code
        self.serviceAction = serviceAction
        var usage = [code] + usage
        if serviceAction != nil { usage[1] |= 0x1F }
        self.usage = usage
        self.access = access
        self.reservation = reservation
        self.yieldsToUnitAttention = yieldsToUnitAttention
        self.requirement = requirement
        self.execute = execute
    }
}

/// A command being executed, with the ways in which it ends.
struct Execution {
    let index: Int
    let commands: CommandTable
    let path: ITLNexus

    var cdb: CDB { commands[index].cdb }

    /// GOOD.
    func succeed() {
        commands.succeed(index)
    }

    /// GOOD with data-in.
    func succeed(with bytes: [UInt8], allocationLength: Int) {
        commands.succeed(index, with: bytes, allocationLength: allocationLength)
    }

    /// CHECK CONDITION.
    func fail(_ sense: Sense) {
        commands.fail(index, sense)
    }

    /// The parameter list; nil when the command has ended because the buffer is too short for it.
    func parameterList(byteCount: Int) -> [UInt8]? {
        commands.parameterList(of: index, byteCount: byteCount)
    }
}
