// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SCSI
import SystemPackage

/// A file that a disk's reservations and saved mode parameters are kept in; one service at a time has it.
///
/// Lives on its device's thread.
final class DiskStateFile: DiskStateKeeper {
    /// Bytes of more registrations than anybody makes.
    private static let limit = 4 << 20

    /// Why a file cannot be used.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private let file: LockedFile
    private let logger = Logger(label: "scsi")

    /// - Throws: `Failure` when another service has the file, or it cannot be made.
    init(path: String) throws {
        do throws(Errno) {
            file = try LockedFile(path: path)
        } catch {
            let isTaken = error == .resourceTemporarilyUnavailable
            throw Failure(
                description: isTaken
                    ? "reservations=\(path): another process keeps reservations there"
                    : "reservations=\(path): \(error)")
        }
    }

    func load() throws -> [UInt8]? {
        do throws(Errno) {
            return try file.read(limit: Self.limit)
        } catch {
            throw Failure(description: "reservations=\(file.path): \(error)")
        }
    }

    func save(_ bytes: [UInt8]) -> Bool {
        do throws(Errno) {
            try file.replace(with: bytes)
            return true
        } catch {
            logger.error(
                "reservations not kept", metadata: ["path": "\(file.path)", "reason": "\(error)"])
            return false
        }
    }
}
