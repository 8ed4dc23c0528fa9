// SPDX-License-Identifier: Apache-2.0

import FileBackstore
import Logging
import SCSI

// Live migration has two services open the same disks: the one that the guest leaves, and the one
// that it comes to, which was started before. The locks of the disks go from the one to the other
// when the guest has stopped here and before the front-end is told so, which then has it start
// there. A migration that comes to nothing has it start here again, and the locks come back.

extension SCSIHost {
    /// The guest starts, or goes on: its disks are locked if they are not.
    func lockDisks() {
        for case .disk(let disk, let store, _, let configuration) in units.values
        where !store.isLocked {
            do {
                try store.lock()
                disk.refreshGeometry(on: bus)
                log.info("disk locked", metadata: ["path": "\(configuration.path)"])
            } catch {
                log.error(
                    "a disk of a guest that starts cannot be locked",
                    metadata: ["error": "\(error)"])
            }
        }
    }

    /// The guest goes to another place: its disks are let go.
    func unlockDisks() {
        for case .disk(_, let store, _, let configuration) in units.values where store.isLocked {
            if store.unlock() {
                guard !store.isLocked else { continue }
                log.info(
                    "disk let go, because the guest migrates",
                    metadata: ["path": "\(configuration.path)"])
            } else {
                log.error(
                    "a disk of a guest that migrates is busy and stays locked",
                    metadata: ["path": "\(configuration.path)"])
            }
        }
    }
}
