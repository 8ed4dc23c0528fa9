// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SCSI

/// What a driver writes before the data of a request: struct virtio_scsi_req_cmd up to the CDB
/// (virtio 1.3 §5.6.6.1).
struct RequestHeader {
    /// Bytes before the CDB.
    static let byteCount = 19

    let address: LUNAddress
    let tag: UInt64
    let attribute: TaskAttribute
    let cdb: CDB

    /// Reads a header, however it is split over the pieces; each byte once.
    ///
    /// - Returns: nil when the pieces end before.
    @inline(__always)
    init?(_ pieces: IOVectorSlice, cdbByteCount: Int) {
        guard let lun = pieces.load(UInt64.self, at: 0),
            let tag = pieces.load(UInt64.self, at: 8),
            let attribute = pieces.load(UInt8.self, at: 16),
            let cdb = Self.cdb(pieces, byteCount: cdbByteCount)
        else { return nil }
        address = LUNAddress(rawValue: UInt64(littleEndian: lun))
        self.tag = UInt64(littleEndian: tag)
        self.attribute = TaskAttribute(rawValue: attribute) ?? .simple
        self.cdb = cdb
    }

    private struct Words: BitwiseCopyable {
        var first: UInt64
        var second: UInt64
        var third: UInt64
        var fourth: UInt64
    }

    @inline(__always)
    private static func cdb(_ pieces: IOVectorSlice, byteCount count: Int) -> CDB? {
        guard count >= CDB.byteLimit else { return shortCDB(pieces, byteCount: count) }
        guard let words = pieces.load(Words.self, at: byteCount) else { return nil }
        return CDB(words: (words.first, words.second, words.third, words.fourth))
    }

    /// A CDB where the driver has chosen a smaller `cdb_size`.
    @inline(never)
    private static func shortCDB(_ pieces: IOVectorSlice, byteCount count: Int) -> CDB? {
        let bytes = pieces.bytes(count, from: byteCount)
        return bytes.count == count ? CDB(bytes) : nil
    }
}

/// What the device writes before the sense data: struct virtio_scsi_req_cmd from `sense_len` on.
struct ResponseHeader: BitwiseCopyable {
    /// Bytes before the sense data.
    static let byteCount = 12

    var senseLength: UInt32
    var residual: UInt32
    var statusQualifier: UInt16 = 0
    var status: UInt8
    var response: UInt8

    @inline(__always)
    init(senseLength: Int, residual: Int, status: Status, response: Response) {
        self.senseLength = UInt32(truncatingIfNeeded: senseLength).littleEndian
        self.residual = UInt32(clamping: residual).littleEndian
        self.status = status.rawValue
        self.response = response.rawValue
    }
}

/// How the device answers requests and task management (virtio 1.3 §5.6.6.1, §5.6.6.2).
enum Response: UInt8 {
    /// VIRTIO_SCSI_S_OK, VIRTIO_SCSI_S_FUNCTION_COMPLETE.
    case ok = 0
    /// VIRTIO_SCSI_S_OVERRUN.
    case overrun = 1
    /// VIRTIO_SCSI_S_ABORTED.
    case aborted = 2
    /// VIRTIO_SCSI_S_BAD_TARGET.
    case badTarget = 3
    /// VIRTIO_SCSI_S_RESET.
    case reset = 4
    /// VIRTIO_SCSI_S_TRANSPORT_FAILURE.
    case transportFailure = 6
    /// VIRTIO_SCSI_S_TARGET_FAILURE.
    case targetFailure = 7
    /// VIRTIO_SCSI_S_FAILURE.
    case failure = 9
    /// VIRTIO_SCSI_S_FUNCTION_SUCCEEDED.
    case functionSucceeded = 10
    /// VIRTIO_SCSI_S_FUNCTION_REJECTED.
    case functionRejected = 11
    /// VIRTIO_SCSI_S_INCORRECT_LUN.
    case incorrectLUN = 12

    /// How a command is answered.
    @inline(__always)
    init(_ response: ServiceResponse, isOverrun: Bool) {
        switch response {
        case .complete: self = isOverrun ? .overrun : .ok
        case .badTarget: self = .badTarget
        case .aborted: self = .aborted
        case .reset: self = .reset
        case .targetFailure: self = .targetFailure
        case .transportFailure: self = .transportFailure
        }
    }

    /// How a task management function is answered.
    init(_ response: TaskManagementResponse) {
        switch response {
        case .functionComplete: self = .ok
        case .functionSucceeded: self = .functionSucceeded
        case .functionRejected: self = .functionRejected
        case .incorrectLUN: self = .incorrectLUN
        case .badTarget: self = .badTarget
        }
    }
}
