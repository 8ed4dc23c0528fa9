// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage

/// What the service manager is told (sd_notify(3)); nothing when none listens.
struct ServiceManager: Sendable {
    private let socketPath: String?

    /// Finds the manager's socket in the environment.
    init() {
        socketPath = ProcessEnvironment.variable("NOTIFY_SOCKET")
    }

    /// The sockets listen.
    func ready() {
        notify("READY=1\nSTATUS=Waiting for a front-end")
    }

    /// Every thread turns.
    func alive() {
        notify("WATCHDOG=1")
    }

    /// The service ends.
    func stopping() {
        notify("STOPPING=1")
    }

    private func notify(_ message: String) {
        guard let socketPath else { return }
        // A manager that does not listen is no reason to stop serving the guest.
        try? UnixDatagram.send(message, toPath: socketPath)
    }
}
