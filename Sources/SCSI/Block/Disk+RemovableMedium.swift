// SPDX-License-Identifier: Apache-2.0

import BlockStorage

/// PREVENT ALLOW MEDIUM REMOVAL and the part of START STOP UNIT that ejects and loads (SPC-4,
/// SBC-3), for disks that say that their medium can be removed.
///
/// The medium never really goes: an ejected one is out of the initiators' reach until one of them
/// loads it.
extension Disk {
    /// PREVENT ALLOW MEDIUM REMOVAL: each nexus prevents and allows for itself.
    func preventRemoval(_ execution: Execution) {
        let nexus = ObjectIdentifier(execution.path)
        switch execution.cdb[4] & 0x03 {
        case 0: removalPreventers.remove(nexus)
        case 1: removalPreventers.insert(nexus)
        default: return execution.fail(.invalidFieldInCDB(byte: 4, bit: 1))
        }
        execution.succeed()
    }

    /// Ejects or loads the medium.
    func moveMedium(loads: Bool, _ execution: Execution) {
        guard isRemovable else { return execution.fail(.invalidFieldInCDB(byte: 4, bit: 1)) }
        guard removalPreventers.isEmpty else {
            return execution.fail(Sense(.illegalRequest, .mediumRemovalPrevented))
        }
        let wasEjected = isMediumEjected
        isMediumEjected = !loads
        restrictionsChanged()
        if loads {
            if wasEjected {
                for path in paths where path !== execution.path { path.raise(.mediumChanged) }
            }
            return execution.succeed()
        }
        flush(execution)
    }
}

extension Operation {
    /// Whether a disk without a medium refuses the command.
    var needsMedium: Bool {
        if access != .none { return true }
        switch code {
        case OperationCode.testUnitReady, OperationCode.readCapacity10,
            OperationCode.serviceActionIn16, OperationCode.synchronizeCache10,
            OperationCode.synchronizeCache16, OperationCode.preFetch10, OperationCode.preFetch16,
            OperationCode.readDefectData10, OperationCode.readDefectData12:
            return true
        default: return false
        }
    }
}
