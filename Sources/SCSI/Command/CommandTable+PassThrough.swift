// SPDX-License-Identifier: Apache-2.0

/// A logical unit that can let go of commands under way at once, because what works on them is
/// not the kernel.
public protocol AbandoningLogicalUnit: LogicalUnit {
    /// Ends a command before this returns; nothing touches its buffers later.
    func abandon(_ index: Int)
}

/// The ways in which a command ends that a logical unit of another module executes.
extension CommandTable {
    /// Ends a command that the logical unit has answered.
    ///
    /// - Parameters:
    ///   - index: the command.
    ///   - status: GOOD or what else the unit said.
    ///   - sense: sense data as the unit gave them; meant with CHECK CONDITION only.
    ///   - demanded: bytes that the command wanted to move, more than the buffer has for an
    ///     overrun.
    ///   - moved: bytes of the buffer that were moved.
    public func end(
        _ index: Int, status: Status, sense: [UInt8] = [], demanded: Int, moved: Int
    ) {
        self[index].direction =
            self[index].dataInByteCount > 0
            ? .in : self[index].dataOutByteCount > 0 ? .out : .none
        self[index].status = status
        if status == .checkCondition { self[index].sense = sense }
        self[index].demandedByteCount = demanded
        self[index].movedByteCount = moved
        end(index)
    }

    /// Ends a command with CHECK CONDITION; nothing was moved.
    public func refuse(_ index: Int, _ sense: Sense) {
        fail(index, sense)
    }

    /// Ends a command without a status; the service response says why.
    public func interrupt(_ index: Int, _ response: ServiceResponse) {
        end(index, response: response)
    }

    /// Answers REPORT LUNS for the target that the way leads through.
    public func reportLUNs(_ index: Int, over path: ITLNexus) {
        ReportLUNs.execute(index, in: self, over: path)
    }
}
