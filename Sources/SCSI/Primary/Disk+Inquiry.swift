// SPDX-License-Identifier: Apache-2.0

import BlockStorage

/// INQUIRY and the vital product data pages (SPC-4, SBC-3).
extension Disk {
    func inquire(_ execution: Execution) {
        let cdb = execution.cdb
        let allocationLength = Int(cdb.uint16(at: 3))
        guard cdb[1] & 1 != 0 else {
            if cdb[2] != 0 { return execution.fail(.invalidFieldInCDB(byte: 2)) }
            return execution.succeed(
                with: StandardInquiry.bytes(of: identity, isRemovable: isRemovable),
                allocationLength: allocationLength)
        }
        guard let page = vitalProductData(page: cdb[2], path: execution.path) else {
            return execution.fail(.invalidFieldInCDB(byte: 2))
        }
        execution.succeed(with: page, allocationLength: allocationLength)
    }

    /// A vital product data page; nil when there is none of that code.
    private func vitalProductData(page: UInt8, path: ITLNexus) -> [UInt8]? {
        let body: [UInt8]
        switch page {
        case 0x00: body = [0x00, 0x80, 0x83, 0x86, 0xB0, 0xB1, 0xB2]
        case 0x80: body = Array(identity.serial.utf8)
        case 0x83: body = deviceIdentification(path)
        case 0x86: body = extendedInquiry
        case 0xB0: body = blockLimits
        case 0xB1: body = blockDeviceCharacteristics
        case 0xB2: body = logicalBlockProvisioning
        default: return nil
        }
        var bytes: [UInt8] = [0x00, page]
        bytes.appendBigEndian(UInt16(body.count))
        return bytes + body
    }

    /// Device Identification: who the logical unit is, and the port that it is seen through.
    private func deviceIdentification(_ path: ITLNexus) -> [UInt8] {
        var bytes: [UInt8] = []
        if !identity.worldWideName.isEmpty {
            // Binary, of the logical unit, NAA.
            bytes += [0x01, 0x03, 0x00, UInt8(identity.worldWideName.count)]
            bytes += identity.worldWideName
        }
        var text: [UInt8] = []
        text.appendField(identity.vendor, byteCount: 8)
        text.appendField(identity.product, byteCount: 16)
        text += identity.serial.utf8.prefix(128)
        // ASCII, of the logical unit, T10 vendor identification.
        bytes += [0x02, 0x01, 0x00, UInt8(text.count)] + text
        // Binary, of the target port, relative target port identifier.
        bytes += [0x01, 0x14, 0x00, 0x04, 0x00, 0x00]
        bytes.appendBigEndian(path.target.relativePort)
        return bytes
    }

    private var extendedInquiry: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 60)
        bytes[1] = 0x07  // SIMPLE, ORDERED and HEAD OF QUEUE
        bytes[2] = 0x01  // a volatile cache is supported
        return bytes
    }

    private var blockLimits: [UInt8] {
        let geometry = geometry
        let blockSize = geometry.blockSize
        var bytes: [UInt8] = [
            0x01,  // WRITE SAME of no blocks is refused
            isShared ? 0 : UInt8(DiskLimits.compareAndWriteBlockCount),
        ]
        bytes.appendBigEndian(UInt16(clamping: geometry.physicalBlockSize / blockSize))
        bytes.appendBigEndian(UInt32(DiskLimits.transferByteCount / blockSize))
        bytes.appendBigEndian(UInt32(clamping: geometry.optimalTransferSize / blockSize))
        bytes.appendBigEndian(UInt32(0))
        let canUnmap = isThin
        bytes.appendBigEndian(UInt32(canUnmap ? DiskLimits.unmapBlockCount : 0))
        bytes.appendBigEndian(UInt32(canUnmap ? DiskLimits.unmapDescriptorCount : 0))
        bytes.appendBigEndian(UInt32(clamping: geometry.discardGranularity / blockSize))
        bytes.appendBigEndian(UInt32(canUnmap ? 0x8000_0000 : 0))
        bytes.appendBigEndian(UInt64(DiskLimits.writeSameBlockCount))
        return bytes + [UInt8](repeating: 0, count: 60 - bytes.count)
    }

    private var blockDeviceCharacteristics: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 60)
        bytes.setBigEndian(UInt16(geometry.isRotational ? 0 : 1), at: 0)
        // After BLOCK ERASE blocks can be read, if the disk has it.
        bytes[3] = isThin ? 0x40 : 0
        return bytes
    }

    private var logicalBlockProvisioning: [UInt8] {
        guard isThin else { return [0, 0, 0, 0] }
        let readsZeroes: UInt8 = geometry.discardReadsZeroes ? 0x04 : 0
        return [0, 0xE0 | readsZeroes, 0x02, 0]
    }
}
