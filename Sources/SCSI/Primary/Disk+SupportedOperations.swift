// SPDX-License-Identifier: Apache-2.0

/// REPORT SUPPORTED OPERATION CODES and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4), out of
/// the table that commands are executed by.
extension Disk {
    func reportSupportedOperations(_ execution: Execution) {
        let cdb = execution.cdb
        let withTimeouts = cdb[2] & 0x80 != 0
        let code = cdb[3]
        let serviceAction = cdb.uint16(at: 4)
        let bytes: [UInt8]
        switch cdb[2] & 0x07 {
        case 0: bytes = allOperations(withTimeouts: withTimeouts)
        case 1:
            if rows(of: code).contains(where: { $0.serviceAction != nil }) {
                return execution.fail(.invalidFieldInCDB(byte: 2, bit: 2))
            }
            bytes = oneOperation(rows(of: code).first, withTimeouts: withTimeouts)
        case 2:
            if rows(of: code).contains(where: { $0.serviceAction == nil }) {
                return execution.fail(.invalidFieldInCDB(byte: 2, bit: 2))
            }
            bytes = oneOperation(
                row(of: code, serviceAction: serviceAction), withTimeouts: withTimeouts)
        case 3:
            let plain = rows(of: code).first { $0.serviceAction == nil && serviceAction == 0 }
            bytes = oneOperation(
                plain ?? row(of: code, serviceAction: serviceAction), withTimeouts: withTimeouts)
        default: return execution.fail(.invalidFieldInCDB(byte: 2, bit: 2))
        }
        execution.succeed(with: bytes, allocationLength: Int(cdb.uint32(at: 6)))
    }

    private func rows(of code: UInt8) -> [Operation] {
        Self.operations.filter { $0.code == code && $0.isSupported(self) }
    }

    private func row(of code: UInt8, serviceAction: UInt16) -> Operation? {
        rows(of: code).first { $0.serviceAction.map(UInt16.init) == serviceAction }
    }

    /// A command descriptor for each row.
    private func allOperations(withTimeouts: Bool) -> [UInt8] {
        var descriptors: [UInt8] = []
        for row in Self.operations where row.isSupported(self) {
            let flags: UInt8 = (withTimeouts ? 0x02 : 0) | (row.serviceAction == nil ? 0 : 0x01)
            descriptors += [row.code, 0, 0, row.serviceAction ?? 0, 0, flags]
            descriptors.appendBigEndian(UInt16(row.usage.count))
            if withTimeouts { descriptors += Self.noTimeouts }
        }
        var bytes: [UInt8] = []
        bytes.appendBigEndian(UInt32(descriptors.count))
        return bytes + descriptors
    }

    /// The usage data of one CDB.
    private func oneOperation(_ row: Operation?, withTimeouts: Bool) -> [UInt8] {
        // SUPPORT 001b: not supported.
        guard let row else { return [0, 0x01, 0, 0] }
        // SUPPORT 011b: supported as the standard has it.
        var bytes: [UInt8] = [0, 0x03 | (withTimeouts ? 0x80 : 0)]
        bytes.appendBigEndian(UInt16(row.usage.count))
        bytes += row.usage
        if let serviceAction = row.serviceAction {
            bytes[5] = bytes[5] & 0xE0 | serviceAction
        }
        return bytes + (withTimeouts ? Self.noTimeouts : [])
    }

    /// A command timeouts descriptor that gives none.
    private static let noTimeouts: [UInt8] = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]

    /// ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, QUERY TASK; QUERY TASK SET
    /// and I_T NEXUS RESET.
    func reportSupportedTaskManagement(_ execution: Execution) {
        let hasExtendedData = execution.cdb[2] & 0x80 != 0
        let functions: [UInt8] = [0x80 | 0x40 | 0x10 | 0x08 | 0x04, 0x02 | 0x01, 0]
        let bytes: [UInt8] =
            hasExtendedData
            ? functions + [12] + [UInt8](repeating: 0, count: 12) : functions + [0]
        execution.succeed(
            with: bytes, allocationLength: Int(execution.cdb.uint32(at: 6)))
    }
}
