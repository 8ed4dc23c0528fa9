// SPDX-License-Identifier: Apache-2.0

/// LOG SENSE and SEND DIAGNOSTIC (SPC-4), READ DEFECT DATA (SBC-3): a disk over a block store has
/// nothing to complain of but what it says at once.
extension Disk {
    /// LOG SENSE: the list of the pages, and the one page.
    func logSense(_ execution: Execution) {
        let cdb = execution.cdb
        let subpage = cdb[3]
        let body: [UInt8]
        switch (cdb[2] & 0x3F, subpage) {
        case (0x00, 0x00): body = [0x00, 0x2F]
        case (0x00, 0xFF): body = [0x00, 0x00, 0x00, 0xFF, 0x2F, 0x00]
        case (0x2F, 0x00):
            // Informational exceptions: parameter 0, in binary, none pending, no temperature.
            body = [0x00, 0x00, 0x03, 0x04, 0x00, 0x00, 0x00, 0x00]
        case (0x2F, _): return execution.fail(.invalidFieldInCDB(byte: 3))
        case (0x00, _): return execution.fail(.invalidFieldInCDB(byte: 3))
        default: return execution.fail(.invalidFieldInCDB(byte: 2, bit: 5))
        }
        var bytes: [UInt8] = [cdb[2] & 0x3F | (subpage == 0 ? 0 : 0x40), subpage]
        bytes.appendBigEndian(UInt16(body.count))
        execution.succeed(
            with: bytes + body, allocationLength: Int(execution.cdb.uint16(at: 7)))
    }

    /// SEND DIAGNOSTIC: the default self-test, which a disk that answers has passed.
    func sendDiagnostic(_ execution: Execution) {
        execution.succeed()
    }

    /// READ DEFECT DATA (10): empty lists in the format that was asked for.
    func readDefectData10(_ execution: Execution) {
        execution.succeed(
            with: [0, execution.cdb[2] & 0x1F, 0, 0],
            allocationLength: Int(execution.cdb.uint16(at: 7)))
    }

    /// READ DEFECT DATA (12).
    func readDefectData12(_ execution: Execution) {
        execution.succeed(
            with: [0, execution.cdb[1] & 0x1F, 0, 0, 0, 0, 0, 0],
            allocationLength: Int(execution.cdb.uint32(at: 6)))
    }
}
