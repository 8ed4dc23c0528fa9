// SPDX-License-Identifier: Apache-2.0

import CLinux
import LinuxIO
import Logging
import Synchronization
import SystemPackage

/// Whether the stores of a file may touch it.
///
/// Any thread may ask; one store changes it.
final class Possession: Sendable {
    /// Whether nobody else may have the file meanwhile; others share their locks.
    let isExclusive: Bool
    let isHeld: Atomic<Bool>

    init(isExclusive: Bool, isHeld: Bool) {
        self.isExclusive = isExclusive
        self.isHeld = Atomic(isHeld)
    }
}

/// The file's lock changes hands while the store stays: when a guest migrates, its disk goes from
/// the service that it leaves to the one that it comes to, both of which have the file open.
///
/// Disks for reading and shared ones have their lock all the time: it keeps no such service out.
extension FileStore {
    /// Whether requests are served; while not, each tries to lock the file, and ends with `busy`
    /// when somebody else has it.
    public var isLocked: Bool { possession.isHeld.load(ordering: .acquiring) }

    /// Lets the file go; stores of other loops have nothing under way then.
    ///
    /// The corresponding C function is `fcntl` with F_OFD_SETLK.
    ///
    /// - Returns: false when a request is under way: then nothing changes.
    public func unlock() -> Bool {
        guard state.value.requestCount == 0 else { return false }
        guard possession.isExclusive, isLocked else { return true }
        possession.isHeld.store(false, ordering: .releasing)
        // To give a lock back does not fail; a file system without locks has none to give.
        _ = cl_lock_range(descriptorNumber, 0, 0, 2, 0)
        return true
    }

    /// Takes the file, and looks how big it is now.
    ///
    /// - Throws: `locked` when somebody else has it.
    public func lock() throws(FileStoreError) {
        guard !isLocked else { return }
        try OpenedFile.lock(descriptorNumber, path: path, readOnly: false, isShared: false)
        possession.isHeld.store(true, ordering: .releasing)
        try refreshSize()
    }

    /// Tries to take the file, and logs why it could not be had.
    @inline(never)
    func locksNow() -> Bool {
        if isTwin { return false }
        do throws(FileStoreError) {
            try lock()
        } catch {
            log("the disk cannot be used", ["error": "\(error)"])
        }
        return isLocked
    }
}
