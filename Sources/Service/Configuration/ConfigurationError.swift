// SPDX-License-Identifier: Apache-2.0

public import ISCSIBackstore
public import VirtioVsock

/// What is wrong with a configuration: the place, what was written, and what would be right.
///
/// A `flag` or `specification` is the place: a flag, a variable, or a file with its line and key.
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
    case repeatedLUN(target: Int, lun: Int, place: String = "--lun")
    case takenPlace(target: Int, lun: Int)
    case illegalRate(key: String, value: String, specification: String)
    case fileKey(String, specification: String)
    case keysBehindPath(String, specification: String)
    case tooManyTargets(limit: Int)
    case pathTooLong(flag: String, path: String, limit: Int)
    case samePath(flag: String, otherFlag: String, path: String)
    case illegalCID(UInt64, flag: String = "--guest-cid")
    case unknownFeature(String, known: [String], flag: String = "--disable-feature")
    case emptyValue(flag: String)
    case unfitValue(flag: String, value: String, wanted: String)
    case vsock(VsockError)
    case repeatedFlag(String, first: String, second: String)
    // In a file.
    case unreadableFile(path: String, reason: String)
    case emptyFile(path: String)
    case syntax(path: String, line: Int, problem: String)
    case unknownTable(flag: String, known: [String])
    case misusedTable(flag: String, wanted: String)
    case unknownFileKey(flag: String, known: [String])
    case wrongType(flag: String, given: String, wanted: String)

    public var description: String {
        switch self {
        case .nothingToServe:
            "nothing to serve: give --scsi-socket, or --vsock-socket, or both"
        case .missingCompanion(let flag, let companion):
            "\(flag) needs \(companion) beside it"
        case .unknownKey(let key, let specification):
            "\(specification): unknown key '\(key)'; "
                + "known are target, lun, path, readonly, block-size, iops, iops-burst, "
                + "bytes-per-second, bytes-burst, "
                + DiskConfiguration.keys.joined(separator: ", ") + ", and for iSCSI "
                + ISCSISpecification.keys.joined(separator: ", ")
        case .repeatedKey(let key, let specification):
            "\(specification): '\(key)' is given twice"
        case .missingPath(let specification):
            "\(specification): no path; give a file or block device, "
                + "alone or as path=FILE, or an iSCSI URL as iscsi=URL"
        case .numberOutOfRange(let key, let value, let limit, let specification):
            "\(specification): \(key)=\(value) is not a number from 0 to \(limit)"
        case .notAFlag(let key, let value, let specification):
            "\(specification): \(key)=\(value); '\(key)' stands alone, or is on or off"
        case .illegalBlockSize(let value, let specification):
            "\(specification): block-size=\(value) is neither 512 nor 4096"
        default:
            iSCSIDescription
        }
    }

    private var iSCSIDescription: String {
        switch self {
        case .twoSources(let specification):
            "\(specification): either path= or iscsi=, not both"
        case .missingKey(let key, let companion, let specification):
            "\(specification): '\(companion)' needs \(key)= beside it"
        case .unknownValue(let key, let value, let known, let specification):
            "\(specification): \(key)=\(value) is none of \(known.joined(separator: ", "))"
        case .iSCSI(let error, let key, let specification):
            "\(specification): \(key): \(error.description)"
        default:
            devicesDescription
        }
    }

    private var devicesDescription: String {
        switch self {
        case .repeatedLUN(let target, let lun, let place):
            "\(place): two have target=\(target),lun=\(lun); each needs a place of its own"
        case .takenPlace(let target, let lun): "target=\(target),lun=\(lun) is taken"
        case .illegalRate(let key, let value, let specification):
            "\(specification): \(key)=\(value) is not a number from 1 to 9007199254740992"
        case .fileKey(let key, let specification):
            "\(specification): '\(key)' is for files and block devices; beside iscsi= are allowed "
                + "target, lun, readonly, "
                + ISCSISpecification.keys.dropFirst().joined(separator: ", ")
        case .keysBehindPath(let form, let specification):
            "\(specification): what has keys behind it is written \(form); "
                + "a comma that belongs to it, twice"
        case .tooManyTargets(let limit):
            "--lun: more than \(limit) without a target; put several on one target with lun="
        case .pathTooLong(let flag, let path, let limit):
            "\(flag) \(path): \(path.utf8.count) bytes; a Unix socket's path has 1 to \(limit)"
        case .samePath(let flag, let otherFlag, let path):
            "\(flag) and \(otherFlag) are both \(path); each needs a path of its own"
        case .illegalCID(let cid, let flag):
            "\(flag) \(cid): a guest's CID is a number from 3 to 4294967294 "
                + "(0, 1, 2 and 4294967295 have a meaning of their own)"
        case .unknownFeature(let name, let known, let flag):
            "\(flag) \(name): no such feature; known are "
                + known.joined(separator: ", ")
        default:
            valueDescription
        }
    }

    private var valueDescription: String {
        switch self {
        case .emptyValue(let flag): "\(flag): the value is empty"
        case .unfitValue(let flag, let value, let wanted): "\(flag) \(value): not \(wanted)"
        case .unreadableFile(let path, let reason): "\(path): cannot be read: \(reason)"
        case .emptyFile(let path):
            "\(path): nothing to serve: give scsi.socket, or vsock.socket, or both"
        case .syntax(let path, let line, let problem): "\(path):\(line): \(problem)"
        case .unknownTable(let flag, let known):
            "\(flag): no such table; known are \(known.joined(separator: ", "))"
        case .misusedTable(let flag, let wanted): "\(flag): \(wanted)"
        case .unknownFileKey(let flag, let known):
            "\(flag): no such key; known here are \(known.joined(separator: ", "))"
        case .wrongType(let flag, let given, let wanted):
            "\(flag): \(given) stands where \(wanted) is wanted"
        case .vsock(let error): error.description
        case .repeatedFlag(let flag, let first, let second):
            "\(flag) is given twice: \(first), and \(second)"
        default: "wrong configuration"
        }
    }
}
