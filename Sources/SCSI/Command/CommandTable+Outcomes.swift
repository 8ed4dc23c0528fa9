// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// The ways in which a command ends.
extension CommandTable {
    /// GOOD, without data or with all that was demanded moved already.
    @inline(__always)
    func succeed(_ index: Int) {
        end(index)
    }

    /// Another status without sense data.
    func end(_ index: Int, status: Status) {
        self[index].status = status
        end(index)
    }

    /// No status: the service response says why.
    func end(_ index: Int, response: ServiceResponse) {
        self[index].response = response
        end(index)
    }

    /// GOOD with data-in: as much of `bytes` as the CDB allows and the initiator has room for.
    func succeed(_ index: Int, with bytes: [UInt8], allocationLength: Int) {
        let demanded = min(bytes.count, allocationLength)
        let moved = min(demanded, self[index].dataInByteCount)
        self[index].direction = .in
        self[index].demandedByteCount = demanded
        self[index].movedByteCount = moved
        self[index].dataIn?.store(bytes, byteCount: moved)
        end(index)
    }

    /// CHECK CONDITION; nothing was moved, or `movedByteCount` says how much.
    func fail(_ index: Int, _ sense: Sense) {
        let format = self[index].path?.with { $0.unit.senseFormat } ?? .fixed
        self[index].status = .checkCondition
        self[index].sense = sense.bytes(format)
        self[index].demandedByteCount = self[index].movedByteCount
        end(index)
    }

    /// Copies the parameter list out of the initiator's buffer.
    ///
    /// - Returns: nil when the buffer is shorter; the command has ended then, with an overrun.
    func parameterList(of index: Int, byteCount: Int) -> [UInt8]? {
        self[index].direction = .out
        self[index].demandedByteCount = byteCount
        guard byteCount <= self[index].dataOutByteCount else {
            end(index)
            return nil
        }
        self[index].movedByteCount = byteCount
        return self[index].dataOut?.bytes(byteCount) ?? []
    }
}
