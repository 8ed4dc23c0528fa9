// SPDX-License-Identifier: Apache-2.0

import BlockStorage

/// UNMAP (SBC-3).
extension Disk {
    func unmap(_ execution: Execution) {
        let length = Int(execution.cdb.uint16(at: 7))
        if length == 0 { return execution.succeed() }
        guard let list = execution.parameterList(byteCount: length) else { return }
        guard length >= 8 else {
            return execution.fail(Sense(.illegalRequest, .parameterListLengthError))
        }
        switch unmapExtents(of: list) {
        case .failure(let sense): execution.fail(sense)
        case .success(let extents): free(extents, execution)
        }
    }

    private enum Extents {
        case success([BlockExtent])
        case failure(Sense)
    }

    /// The block descriptors of a parameter list, checked.
    private func unmapExtents(of list: [UInt8]) -> Extents {
        // Descriptors that were cut off are ignored, as the standard has it.
        let byteCount = min(Int(list.bigEndian(UInt16.self, at: 2)), list.count - 8)
        let count = byteCount / 16
        guard count <= DiskLimits.unmapDescriptorCount else {
            return .failure(.invalidFieldInParameterList(byte: 2))
        }
        var extents: [BlockExtent] = []
        var total: UInt64 = 0
        for number in 0..<count {
            let start = 8 + 16 * number
            let extent = BlockExtent(
                first: list.bigEndian(UInt64.self, at: start),
                count: UInt64(list.bigEndian(UInt32.self, at: start + 8)))
            guard extent.count <= geometry.blockCount,
                extent.first <= geometry.blockCount - extent.count
            else { return .failure(Sense(.illegalRequest, .blockAddressOutOfRange)) }
            total += extent.count
            if extent.count > 0 { extents.append(extent) }
        }
        guard total <= UInt64(DiskLimits.unmapBlockCount) else {
            return .failure(.invalidFieldInParameterList(byte: 8))
        }
        return .success(extents)
    }

    private func free(_ extents: [BlockExtent], _ execution: Execution) {
        guard let first = extents.map(\.first).min(),
            let end = extents.map({ $0.first + $0.count }).max()
        else { return execution.succeed() }
        let index = execution.index
        let all = BlockExtent(first: first, count: end - first)
        guard taskSet.claim(all, for: index, in: execution.commands) else { return }
        execution.commands[index].pendingPartCount = extents.count
        for extent in extents {
            store.submit(
                BlockRequest(
                    .discard, offset: offset(of: extent.first), byteCount: byteCount(of: extent)),
                owner: self, token: UInt64(index))
        }
    }
}
