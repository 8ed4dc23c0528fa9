// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// MODE SENSE (SPC-4).
extension Disk {
    func modeSense6(_ execution: Execution) {
        let cdb = execution.cdb
        guard let pages = modePages(execution) else { return }
        let descriptor = cdb[1] & 0x08 != 0 ? [] : blockDescriptor(isLong: false)
        let rest = descriptor + pages
        let header: [UInt8] = [
            UInt8(3 + rest.count), 0, deviceSpecificParameter, UInt8(descriptor.count),
        ]
        execution.succeed(with: header + rest, allocationLength: Int(cdb[4]))
    }

    func modeSense10(_ execution: Execution) {
        let cdb = execution.cdb
        guard let pages = modePages(execution) else { return }
        let isLong = cdb[1] & 0x10 != 0
        let descriptor = cdb[1] & 0x08 != 0 ? [] : blockDescriptor(isLong: isLong)
        let rest = descriptor + pages
        var header: [UInt8] = []
        header.appendBigEndian(UInt16(6 + rest.count))
        header += [0, deviceSpecificParameter, isLong && !descriptor.isEmpty ? 1 : 0, 0]
        header.appendBigEndian(UInt16(descriptor.count))
        execution.succeed(with: header + rest, allocationLength: Int(cdb.uint16(at: 7)))
    }

    /// Write protection, and that DPO and FUA are understood.
    private var deviceSpecificParameter: UInt8 { isWriteProtected ? 0x90 : 0x10 }

    private func blockDescriptor(isLong: Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        if isLong {
            bytes.appendBigEndian(geometry.blockCount)
            bytes.appendBigEndian(UInt32(0))
        } else {
            bytes.appendBigEndian(UInt32(clamping: geometry.blockCount))
        }
        bytes.appendBigEndian(UInt32(geometry.blockSize))
        return bytes
    }

    /// The pages that a CDB asks for; nil when the command has ended because there are none.
    private func modePages(_ execution: Execution) -> [UInt8]? {
        let cdb = execution.cdb
        let code = cdb[2] & 0x3F
        let subpage = cdb[3]
        let codes = code == 0x3F ? DiskModes.pageCodes : [code]
        // No page has subpages, so that all of them are the page itself.
        guard subpage == 0 || subpage == 0xFF else {
            execution.fail(.invalidFieldInCDB(byte: 3))
            return nil
        }
        var pages: [UInt8] = []
        for code in codes {
            let page: [UInt8]?
            switch cdb[2] >> 6 {
            case 0: page = state.value.modes.page(code)
            case 1: page = DiskModes.changeableBits(code)
            case 2: page = DiskModes().page(code)
            default:
                guard stateKeeper != nil else {
                    execution.fail(Sense(.illegalRequest, .savingParametersNotSupported))
                    return nil
                }
                page = (savedModes ?? DiskModes()).page(code)
            }
            guard var page else {
                execution.fail(.invalidFieldInCDB(byte: 2, bit: 5))
                return nil
            }
            // PS: the page's parameters can be saved.
            if stateKeeper != nil && DiskModes.changeablePageCodes.contains(code) {
                page[0] |= 0x80
            }
            pages += page
        }
        return pages
    }
}
