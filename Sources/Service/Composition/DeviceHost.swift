// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// How to make one device on its own thread.
struct DeviceBuilder: Sendable {
    /// What the kernel shows for the thread; at most 15 bytes.
    let name: String
    /// Runs on the thread: opens what the device needs and listens.
    let build: @Sendable (EventLoop) throws -> any DeviceHost
}

/// What lives on a device's thread: the device model with its vhost-user server.
protocol DeviceHost: AnyObject {
    /// Stops serving: closes the sockets, drains for at most the time given.
    ///
    /// `body` is called once, on this thread.
    func stop(within limit: Duration, _ body: @escaping @Sendable () -> Void)

    /// Answers what the main thread asks, at once or later. Must not block.
    ///
    /// `reply` is called once, on this thread.
    func answer(
        _ question: DeviceQuestion, _ reply: @escaping @Sendable (DeviceAnswer) -> Void)
}

/// What the main thread asks of a device.
enum DeviceQuestion: Sendable {
    /// Whether the thread still turns.
    case areYouThere
    case status
    case addUnit(LUNSpecification)
    case removeUnit(UnitPlace)
    /// The file or device behind a unit has another size now.
    case resizeUnit(UnitPlace)
    case limitUnit(UnitPlace, StoreLimits)
    /// Take nothing new, or take it again.
    case drain(Bool)
    /// Every connection of a vsock device.
    case connections
}

/// What a device answers.
enum DeviceAnswer: Sendable {
    case here
    case scsi(SCSIStatus)
    case vsock(VsockStatus)
    case connections([ConnectionStatus])
    case done(String)
    case refused(String)
    /// The thread has not answered in time.
    case silent(device: String)
}
