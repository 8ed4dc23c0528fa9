// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import VhostUser

/// Which devices a service has, and how each is made.
///
/// A third device model is one more host, and one more builder here.
enum Composition {
    /// The builders of the devices that the configuration names.
    static func builders(for configuration: ServiceConfiguration) -> [DeviceBuilder] {
        var builders: [DeviceBuilder] = []
        let withheld = configuration.withheldFeatures
        if let scsi = configuration.scsi {
            builders.append(
                DeviceBuilder(name: "scsi") { loop in
                    try SCSIHost(
                        scsi, loop: loop,
                        options: serverOptions(name: "scsi", withholding: withheld))
                })
        }
        if let vsock = configuration.vsock {
            builders.append(
                DeviceBuilder(name: "vsock") { loop in
                    try VsockHost(
                        vsock, loop: loop,
                        options: serverOptions(name: "vsock", withholding: withheld))
                })
        }
        return builders
    }

    /// The names that `withheldFeatures` may have.
    static var withholdableFeatures: [String] { WithheldFeatures.names.map(\.name) }

    /// What the server of a device is told.
    static func serverOptions(name: String, withholding names: [String]) -> VhostUserOptions {
        var withheld = WithheldFeatures()
        for name in names {
            if let features = WithheldFeatures(name: name) { withheld.formUnion(features) }
        }
        return VhostUserOptions(name: name, withheld: withheld)
    }

    /// Listens for front-ends at a path that was checked before.
    ///
    /// - Parameters:
    ///   - path: of the socket.
    ///   - permissions: who may connect; nil for what the umask leaves.
    /// - Returns: the listener, whose name goes with it.
    /// - Throws: why nobody can connect there.
    static func listener(at path: String, permissions: UInt32? = nil) throws -> UnixListener {
        guard let address = UnixAddress(path: path) else {
            throw ConfigurationError.pathTooLong(
                flag: "socket", path: path, limit: UnixAddress.maximumByteCount)
        }
        return try UnixListener(address, permissions: permissions)
    }
}
