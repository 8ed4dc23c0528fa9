// SPDX-License-Identifier: Apache-2.0

public import ISCSIBackstore

/// What is wrong with a configuration: the flag, what was written, and what would be right.
public enum ConfigurationError: Error, Equatable, CustomStringConvertible {
    case nothingToServe
    case missingCompanion(flag: String, companion: String)
    case unknownKey(String, specification: String)
    case repeatedKey(String, specification: String)
    case missingPath(specification: String)
    case twoSources(specification: String)
    case missingKey(String, companion: String, specification: String)
    case unknownValue(key: String, value: String, known: [String], specification: String)
    case iSCSI(ISCSIError, key: String, specification: String)
    case numberOutOfRange(key: String, value: String, limit: Int, specification: String)
    case notAFlag(key: String, value: String, specification: String)
    case illegalBlockSize(String, specification: String)
    case repeatedLUN(target: Int, lun: Int)
    case tooManyTargets(limit: Int)
    case pathTooLong(flag: String, path: String, limit: Int)
    case samePath(flag: String, otherFlag: String, path: String)
    case illegalCID(UInt64)
    case unknownFeature(String, known: [String])

    public var description: String {
        switch self {
        case .nothingToServe:
            "nothing to serve: give --scsi-socket, or --vsock-socket, or both"
        case .missingCompanion(let flag, let companion):
            "\(flag) needs \(companion) beside it"
        case .unknownKey(let key, let specification):
            "--lun \(specification): unknown key '\(key)'; "
                + "known are target, lun, path, readonly, block-size, and for iSCSI "
                + ISCSISpecification.keys.joined(separator: ", ")
        case .repeatedKey(let key, let specification):
            "--lun \(specification): '\(key)' is given twice"
        case .missingPath(let specification):
            "--lun \(specification): no path; give a file or block device, "
                + "alone or as path=FILE, or an iSCSI URL as iscsi=URL"
        case .numberOutOfRange(let key, let value, let limit, let specification):
            "--lun \(specification): \(key)=\(value) is not a number from 0 to \(limit)"
        case .notAFlag(let key, let value, let specification):
            "--lun \(specification): \(key)=\(value); '\(key)' stands alone, or is on or off"
        case .illegalBlockSize(let value, let specification):
            "--lun \(specification): block-size=\(value) is neither 512 nor 4096"
        default:
            iSCSIDescription
        }
    }

    private var iSCSIDescription: String {
        switch self {
        case .twoSources(let specification):
            "--lun \(specification): either path= or iscsi=, not both"
        case .missingKey(let key, let companion, let specification):
            "--lun \(specification): '\(companion)' needs \(key)= beside it"
        case .unknownValue(let key, let value, let known, let specification):
            "--lun \(specification): \(key)=\(value) is none of \(known.joined(separator: ", "))"
        case .iSCSI(let error, let key, let specification):
            "--lun \(specification): \(key): \(error.description)"
        default:
            devicesDescription
        }
    }

    private var devicesDescription: String {
        switch self {
        case .repeatedLUN(let target, let lun):
            "--lun: two have target=\(target),lun=\(lun); each needs a place of its own"
        case .tooManyTargets(let limit):
            "--lun: more than \(limit) without a target; put several on one target with lun="
        case .pathTooLong(let flag, let path, let limit):
            "\(flag) \(path): \(path.utf8.count) bytes; a Unix socket's path has 1 to \(limit)"
        case .samePath(let flag, let otherFlag, let path):
            "\(flag) and \(otherFlag) are both \(path); each needs a path of its own"
        case .illegalCID(let cid):
            "--guest-cid \(cid): a guest's CID is a number from 3 to 4294967294 "
                + "(0, 1, 2 and 4294967295 have a meaning of their own)"
        case .unknownFeature(let name, let known):
            "--disable-feature \(name): no such feature; known are "
                + known.joined(separator: ", ")
        default:
            "wrong configuration"
        }
    }
}
