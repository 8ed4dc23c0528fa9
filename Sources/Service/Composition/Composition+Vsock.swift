// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import VhostUser
import VirtioVsock

extension Composition {
    /// The vsock device with its server.
    static func vsockBuilder(
        _ configuration: VsockConfiguration, withholding withheld: [String]
    ) -> DeviceBuilder {
        DeviceBuilder(name: "vsock") { loop in
            let options = VsockOptions(guestCID: configuration.guestCID, path: configuration.path)
            let device = try VsockDevice(
                loop: loop, options: options, logger: Logger(label: "vsock"))
            let server = try VhostUserServer(
                loop: loop, device: device, listener: listener(at: configuration.socketPath),
                options: serverOptions(name: "vsock", withholding: withheld))
            server.frontEndLeft = ProcessEnvironment.releaseStartUpPages
            return DeviceHost { limit, finished in
                server.stop(deadline: limit) {
                    device.close()
                    finished()
                }
            }
        }
    }
}
