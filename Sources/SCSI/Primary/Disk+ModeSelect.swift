// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// MODE SELECT (SPC-4): nothing is changed unless everything in the list is right.
extension Disk {
    func modeSelect6(_ execution: Execution) {
        if refusesToSave(execution) { return }
        let length = Int(execution.cdb[4])
        guard let list = execution.parameterList(byteCount: length) else { return }
        if length == 0 { return execution.succeed() }
        guard length >= 4 else {
            return execution.fail(Sense(.illegalRequest, .parameterListLengthError))
        }
        select(
            list, headerLength: 4, descriptorLength: Int(list[3]), isLong: false, execution)
    }

    func modeSelect10(_ execution: Execution) {
        if refusesToSave(execution) { return }
        let length = Int(execution.cdb.uint16(at: 7))
        guard let list = execution.parameterList(byteCount: length) else { return }
        if length == 0 { return execution.succeed() }
        guard length >= 8 else {
            return execution.fail(Sense(.illegalRequest, .parameterListLengthError))
        }
        select(
            list, headerLength: 8, descriptorLength: Int(list.bigEndian(UInt16.self, at: 6)),
            isLong: list[4] & 1 != 0, execution)
    }

    /// Ends a command that wants the pages saved where they cannot be.
    private func refusesToSave(_ execution: Execution) -> Bool {
        guard execution.cdb[1] & 0x01 != 0, stateKeeper == nil else { return false }
        execution.fail(.invalidFieldInCDB(byte: 1, bit: 0))
        return true
    }

    private func select(
        _ list: [UInt8], headerLength: Int, descriptorLength: Int, isLong: Bool,
        _ execution: Execution
    ) {
        let start = headerLength + descriptorLength
        guard start <= list.count else {
            return execution.fail(Sense(.illegalRequest, .parameterListLengthError))
        }
        let descriptor = Array(list[headerLength..<start])
        guard isUnchanged(descriptor, isLong: isLong) else {
            return execution.fail(.invalidFieldInParameterList(byte: headerLength))
        }
        var modes = state.value.modes
        if let sense = apply(list, from: start, to: &modes) { return execution.fail(sense) }
        guard execution.cdb[1] & 0x01 != 0, modes != savedModes else {
            return use(modes, execution)
        }
        let saved = modes
        change(for: execution) {
            $0.savedModes = saved
        } then: { [self] in
            use(saved, execution)
        }
    }

    private func use(_ modes: DiskModes, _ execution: Execution) {
        guard modes != state.value.modes else { return execution.succeed() }
        let disablesCache = state.value.modes.isWriteCacheEnabled && !modes.isWriteCacheEnabled
        state.value.modes = modes
        for path in paths where path !== execution.path { path.raise(.modeParametersChanged) }
        if disablesCache { flush(execution) } else { execution.succeed() }
    }

    /// Whether a block descriptor says what is so already.
    private func isUnchanged(_ descriptor: [UInt8], isLong: Bool) -> Bool {
        if descriptor.isEmpty { return true }
        guard descriptor.count == (isLong ? 16 : 8) else { return false }
        let count: UInt64
        let allOnes: UInt64
        let size: UInt32
        if isLong {
            count = descriptor.bigEndian(UInt64.self, at: 0)
            allOnes = .max
            size = descriptor.bigEndian(UInt32.self, at: 12)
        } else {
            count = UInt64(descriptor.bigEndian(UInt32.self, at: 0))
            allOnes = UInt64(UInt32.max)
            size = descriptor.bigEndian(UInt32.self, at: 4) & 0xFF_FFFF
        }
        return size == UInt32(geometry.blockSize)
            && (count == 0 || count == allOnes || count == geometry.blockCount)
    }

    /// Takes the pages over.
    ///
    /// - Returns: what is wrong with them.
    private func apply(_ list: [UInt8], from start: Int, to modes: inout DiskModes) -> Sense? {
        var position = start
        while position < list.count {
            let code = list[position] & 0x3F
            guard list[position] & 0x40 == 0, let current = modes.page(code),
                let changeable = DiskModes.changeableBits(code)
            else { return .invalidFieldInParameterList(byte: position, bit: 5) }
            let end = position + current.count
            guard end <= list.count else {
                return Sense(.illegalRequest, .parameterListLengthError)
            }
            let page = Array(list[position..<end])
            guard page[1] == current[1] else {
                return .invalidFieldInParameterList(byte: position + 1)
            }
            for index in 2..<page.count {
                let illegal = (page[index] ^ current[index]) & ~changeable[index]
                if illegal != 0 {
                    return .invalidFieldInParameterList(
                        byte: position + index, bit: UInt8(7 - illegal.leadingZeroBitCount))
                }
            }
            modes.apply(page)
            position = end
        }
        return nil
    }
}
