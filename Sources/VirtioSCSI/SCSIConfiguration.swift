// SPDX-License-Identifier: Apache-2.0

/// The configuration space of a virtio-scsi device: struct virtio_scsi_config (virtio 1.3 §5.6.4).
struct SCSIConfiguration {
    /// Bytes of the structure.
    static let byteCount = 36
    static let defaultSenseByteCount = 96
    static let defaultCDBByteCount = 32
    /// The bytes that a driver may write: `sense_size` and `cdb_size`.
    private static let writableBytes = 20..<28

    let requestQueueCount: Int
    /// Bytes of sense data in a response.
    private(set) var senseByteCount = defaultSenseByteCount
    /// Bytes of the CDB in a request.
    private(set) var cdbByteCount = defaultCDBByteCount

    init(requestQueueCount: Int) {
        self.requestQueueCount = requestQueueCount
    }

    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        func append(_ number: Int, byteCount: Int = 4) {
            for index in 0..<byteCount {
                bytes.append(UInt8(truncatingIfNeeded: number >> (8 * index)))
            }
        }
        append(requestQueueCount)
        append(1022)  // seg_max
        append(65535)  // max_sectors
        append(128)  // cmd_per_lun
        append(16)  // event_info_size
        append(senseByteCount)
        append(cdbByteCount)
        append(0, byteCount: 2)  // max_channel
        append(255, byteCount: 2)  // max_target
        append(16383)  // max_lun
        return bytes
    }

    /// Takes over what a driver writes.
    ///
    /// - Returns: false when a field is read-only or out of range; nothing is changed then.
    mutating func write(_ written: [UInt8], at offset: Int) -> Bool {
        guard offset >= 0, offset <= Self.byteCount, written.count <= Self.byteCount - offset
        else { return false }
        let old = bytes
        var new = old
        new.replaceSubrange(offset..<offset + written.count, with: written)
        for index in new.indices
        where !Self.writableBytes.contains(index) && new[index] != old[index] {
            return false
        }
        let sense = Self.number(new[20..<24])
        let cdb = Self.number(new[24..<28])
        guard sense <= 65535, (6...255).contains(cdb) else { return false }
        senseByteCount = sense
        cdbByteCount = cdb
        return true
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> Int {
        bytes.reversed().reduce(0) { $0 << 8 | Int($1) }
    }
}
