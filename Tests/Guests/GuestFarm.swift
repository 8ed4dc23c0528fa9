// SPDX-License-Identifier: Apache-2.0
import Guests
import Synchronization

/// A daemon, what it held before it had a guest, and the guest that runs on it.
struct ServedGuest: Sendable {
    let daemon: Daemon
    let idleFootprint: ProcessFootprint
    let guest: Guest
}

/// The guests that the tests of a suite share, since a boot costs more than most of what follows it.
///
/// A guest is booted when it is first asked for, and again when it is gone.
final class GuestFarm: Sendable {
    static let shared = GuestFarm()

    private let guests = Mutex<[GuestSetup: ServedGuest]>([:])

    func guest(_ setup: GuestSetup) throws -> ServedGuest {
        if let running = guests.withLock({ $0[setup] }), running.guest.isRunning { return running }
        let daemon = try Daemon(
            disabledFeatures: setup.disabledFeatures,
            furtherArguments: ["--scsi-threads", "\(setup.requestThreadCount)"])
        return try boot(setup, on: daemon, idleFootprint: daemon.settledFootprint())
    }

    /// Boots another guest on the daemon of one that is gone.
    func replaceGuest(of gone: ServedGuest) throws -> ServedGuest {
        try boot(gone.guest.setup, on: gone.daemon, idleFootprint: gone.idleFootprint)
    }

    private func boot(
        _ setup: GuestSetup, on daemon: Daemon, idleFootprint: ProcessFootprint
    ) throws -> ServedGuest {
        let guest = try Guest(setup, on: daemon)
        let served = ServedGuest(daemon: daemon, idleFootprint: idleFootprint, guest: guest)
        guests.withLock { $0[setup] = served }
        return served
    }
}
