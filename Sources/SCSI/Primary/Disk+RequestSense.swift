// SPDX-License-Identifier: Apache-2.0

/// TEST UNIT READY and REQUEST SENSE (SPC-4).
extension Disk {
    func testUnitReady(_ execution: Execution) {
        execution.succeed()
    }

    /// Reports, and takes off, the most important unit attention condition; without one, what
    /// SANITIZE is doing.
    func requestSense(_ execution: Execution) {
        let cdb = execution.cdb
        let attention = execution.path.takeUnitAttention()?.sense
        let sense = attention ?? sanitizeSense ?? Sense(.noSense, .none)
        execution.succeed(
            with: sense.bytes(cdb[1] & 1 == 0 ? .fixed : .descriptor),
            allocationLength: Int(cdb[4]))
    }
}
