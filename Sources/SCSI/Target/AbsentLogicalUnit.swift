// SPDX-License-Identifier: Apache-2.0

/// What answers for a number that no logical unit of the target has (SPC-4, INQUIRY, peripheral
/// qualifier 011b; LOGICAL UNIT NOT SUPPORTED).
///
/// Lives on its device's thread.
final class AbsentLogicalUnit: LogicalUnit {
    let taskSet = TaskSet()
    let senseFormat = Sense.Format.fixed

    func execute(_ index: Int, in commands: CommandTable, over path: ITLNexus) {
        let cdb = commands[index].cdb
        let notSupported = Sense(.illegalRequest, .logicalUnitNotSupported)
        switch cdb.operationCode {
        case OperationCode.inquiry:
            StandardInquiry.absent(index, in: commands)
        case OperationCode.reportLUNs:
            ReportLUNs.execute(index, in: commands, over: path)
        case OperationCode.requestSense:
            commands.succeed(
                index, with: notSupported.bytes(cdb[1] & 1 == 0 ? .fixed : .descriptor),
                allocationLength: Int(cdb[4]))
        default:
            commands.fail(index, notSupported)
        }
    }

    func abort(_ index: Int, in commands: CommandTable) {}
    func reset() {}
    func nexusLost(_ path: ITLNexus) {}
    func attached(_ path: ITLNexus, commands: CommandTable) {}
    func detached(_ path: ITLNexus) {}
}
