// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// How to make one device on its own thread.
struct DeviceBuilder: Sendable {
    /// What the kernel shows for the thread; at most 15 bytes.
    let name: String
    /// Runs on the thread: opens what the device needs and listens.
    let build: @Sendable (EventLoop) throws -> DeviceHost
}

/// What lives on a device's thread: the device model with its vhost-user server.
final class DeviceHost {
    private let stopWork: (Duration, @escaping @Sendable () -> Void) -> Void

    /// - Parameter stop: closes the sockets, drains for at most the time given, then calls back.
    init(stop: @escaping (Duration, @escaping @Sendable () -> Void) -> Void) {
        stopWork = stop
    }

    /// Stops serving.
    ///
    /// `body` is called once, on this thread.
    func stop(within limit: Duration, _ body: @escaping @Sendable () -> Void) {
        stopWork(limit, body)
    }
}
