// SPDX-License-Identifier: Apache-2.0

/// The REPORT LUNS well-known logical unit (SPC-4, Well known logical units).
///
/// Lives on its device's thread.
final class ReportLUNsLogicalUnit: LogicalUnit {
    let taskSet = TaskSet()
    let senseFormat = Sense.Format.fixed

    func execute(_ index: Int, in commands: CommandTable, over path: ITLNexus) {
        let cdb = commands[index].cdb
        switch cdb.operationCode {
        case OperationCode.inquiry:
            StandardInquiry.wellKnown(index, in: commands)
        case OperationCode.reportLUNs:
            ReportLUNs.execute(index, in: commands, over: path)
        case OperationCode.requestSense:
            commands.succeed(
                index, with: Sense(.noSense, .none).bytes(cdb[1] & 1 == 0 ? .fixed : .descriptor),
                allocationLength: Int(cdb[4]))
        case OperationCode.testUnitReady:
            commands.succeed(index)
        default:
            commands.fail(index, Sense(.illegalRequest, .invalidOperationCode))
        }
    }

    func abort(_ index: Int, in commands: CommandTable) {}
    func reset() {}
    func nexusLost(_ path: ITLNexus) {}
    func attached(_ path: ITLNexus, commands: CommandTable) {}
    func detached(_ path: ITLNexus) {}
}
