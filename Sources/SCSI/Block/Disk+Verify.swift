// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// VERIFY and WRITE AND VERIFY (SBC-3): the medium is read, whatever the cache says.
extension Disk {
    /// What BYTCHK asks for.
    private enum ByteCheck {
        case none
        /// The medium holds what the initiator sends.
        case all
        /// Each block of the medium is the one that the initiator sends.
        case oneBlock
    }

    /// VERIFY (10), (12), (16).
    func verify(_ execution: Execution) {
        let check: ByteCheck
        switch execution.cdb[1] >> 1 & 0x03 {
        case 0: check = .none
        case 1: check = .all
        case 3: check = .oneBlock
        default: return execution.fail(.invalidFieldInCDB(byte: 1, bit: 2))
        }
        guard
            let extent = check == .all ? dataExtent(of: execution) : checkedExtent(of: execution),
            expectData(check, extent, execution)
        else { return }
        begin(execution).compare(extent, check == .all ? .data : check == .none ? .nothing : .block)
    }

    /// WRITE AND VERIFY (10), (12), (16).
    func writeAndVerify(_ execution: Execution) {
        guard execution.cdb[1] & 0x04 == 0 else {
            return execution.fail(.invalidFieldInCDB(byte: 1, bit: 2))
        }
        let comparesData = execution.cdb[1] & 0x02 != 0
        guard let extent = dataExtent(of: execution), expectData(.all, extent, execution) else {
            return
        }
        let operation = begin(execution)
        operation.writeData(extent, isDurable: true) {
            operation.compare(extent, comparesData ? .data : .nothing)
        }
    }

    /// Says what the initiator has to send, and claims the blocks.
    ///
    /// - Returns: false when the command has ended, or waits.
    private func expectData(
        _ check: ByteCheck, _ extent: BlockExtent, _ execution: Execution
    ) -> Bool {
        let index = execution.index
        let commands = execution.commands
        switch check {
        case .none: break
        case .all:
            commands[index].direction = .out
            commands[index].demandedByteCount = byteCount(of: extent)
        case .oneBlock:
            commands[index].direction = .out
            commands[index].demandedByteCount = extent.count == 0 ? 0 : geometry.blockSize
        }
        if extent.count == 0 || commands[index].isOverrun {
            execution.succeed()
            return false
        }
        return taskSet.claim(extent, for: index, in: commands)
    }
}

extension BlockOperation {
    /// What the medium is compared with.
    enum Expectation {
        /// Nothing: it is enough that it can be read.
        case nothing
        /// The data that the initiator sends.
        case data
        /// The one block that the initiator sends.
        case block
    }

    /// Reads blocks and compares them, chunk by chunk; then the command has ended.
    func compare(_ extent: BlockExtent, _ expectation: Expectation) {
        let byteCount = min(DiskLimits.chunkByteCount, disk.byteCount(of: extent))
        let expected = AlignedBuffer(byteCount: byteCount)
        if expectation == .block {
            let block = commands[index].dataOut?.bytes(disk.geometry.blockSize) ?? []
            if !block.isEmpty { expected.fill(repeating: block) }
        }
        compare(
            extent, done: 0, expectation, read: AlignedBuffer(byteCount: byteCount), expected)
    }

    private func compare(
        _ extent: BlockExtent, done: UInt64, _ expectation: Expectation, read: AlignedBuffer,
        _ expected: AlignedBuffer
    ) {
        guard done < extent.count else { return succeedWithData() }
        let blockSize = disk.geometry.blockSize
        let count = min(extent.count - done, UInt64(read.byteCount / blockSize))
        let byteCount = Int(count) * blockSize
        self.read(first: extent.first + done, byteCount: byteCount, into: read) { [self] _ in
            let offset = Int(done) * blockSize
            if expectation == .data { load(expected, byteCount: byteCount, from: offset) }
            if expectation != .nothing,
                let difference = read.firstDifference(from: expected, byteCount: byteCount)
            {
                return failMiscompare(at: offset + difference)
            }
            compare(extent, done: done + count, expectation, read: read, expected)
        }
    }

    /// The data differ from the medium at a byte.
    func failMiscompare(at offset: Int) {
        fail(
            Sense(
                .miscompare, .miscompareDuringVerify,
                information: UInt64(offset)))
    }
}
