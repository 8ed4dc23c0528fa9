// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// Asks every device what it is and does, and puts the answers together.
///
/// It belongs to the main thread.
final class Census {
    let devices: [Device]
    /// The virtual machine's name, if it has one.
    private let machine: String?
    let inquiries: Inquiries
    private let loop: EventLoop
    private let start: Instant

    init(devices: [Device], machine: String?, inquiries: Inquiries, loop: EventLoop) {
        self.devices = devices
        self.machine = machine
        self.inquiries = inquiries
        self.loop = loop
        start = loop.now
    }

    /// Calls back once, when every device has answered or time is up.
    func take(_ whenTaken: @escaping (ServiceStatus) -> Void) {
        inquiries.ask(devices, .status) { answers in
            var status = ServiceStatus(
                version: Service.version,
                uptimeSeconds: (self.loop.now.nanoseconds - self.start.nanoseconds) / 1_000_000_000,
                logLevel: LoggingSetup.level.rawValue)
            status.machine = self.machine
            for answer in answers { status.take(answer) }
            whenTaken(status)
        }
    }
}

extension ServiceStatus {
    fileprivate mutating func take(_ answer: DeviceAnswer) {
        switch answer {
        case .scsi(let scsi): self.scsi = scsi
        case .vsock(let vsock): self.vsock = vsock
        case .silent(let device): silentDevices.append(device)
        case .here, .done, .refused, .connections: break
        }
    }
}
