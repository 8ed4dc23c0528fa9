// SPDX-License-Identifier: Apache-2.0

import BlockStorage

/// SYNCHRONIZE CACHE, PRE-FETCH and START STOP UNIT (SBC-3).
extension Disk {
    /// SYNCHRONIZE CACHE (10) and (16): flushes everything, whatever the range.
    func synchronizeCache(_ execution: Execution) {
        guard checkedExtent(of: execution) != nil else { return }
        flush(execution)
    }

    /// PRE-FETCH (10) and (16): the host's cache does as it likes.
    func preFetch(_ execution: Execution) {
        guard checkedExtent(of: execution) != nil else { return }
        execution.succeed()
    }

    /// START STOP UNIT: there is nothing to start; what is cached is flushed before a stop.
    func startStopUnit(_ execution: Execution) {
        let cdb = execution.cdb
        let loadsOrEjects = cdb[4] & 0x02 != 0
        let powerCondition = cdb[4] >> 4
        if powerCondition != 0 { return execution.succeed() }
        let starts = cdb[4] & 0x01 != 0
        if loadsOrEjects { return moveMedium(loads: starts, execution) }
        if starts || cdb[4] & 0x04 != 0 { return execution.succeed() }
        flush(execution)
    }

    func flush(_ execution: Execution) {
        if isReadOnly { return execution.succeed() }
        execution.commands[execution.index].pendingPartCount = 1
        store.submit(BlockRequest(.flush), owner: self, token: UInt64(execution.index))
    }
}
