// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import VhostUser
import Virtio

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

    /// The server of a device: at its path, or at the socket that was passed instead.
    ///
    /// The process ends with the front-end when what was passed is its connection.
    static func server(
        of device: any VirtioDevice, at path: String, or descriptor: Int32?, loop: EventLoop,
        options: VhostUserOptions
    ) throws -> VhostUserServer {
        guard let descriptor else {
            let server = try VhostUserServer(
                loop: loop, device: device, listener: listener(at: path), options: options)
            server.frontEndLeft = ProcessEnvironment.releaseStartUpPages
            return server
        }
        switch try passedSocket(descriptor) {
        case .listening(let socket):
            let server = try VhostUserServer(
                loop: loop, device: device, listener: UnixListener(taking: socket),
                options: options)
            server.frontEndLeft = ProcessEnvironment.releaseStartUpPages
            return server
        case .connected(let socket):
            let server = try VhostUserServer(
                loop: loop, device: device, connected: socket, options: options)
            server.frontEndLeft = ProcessEnvironment.askToStop
            return server
        }
    }

    /// Does something that a key of the configuration asks for.
    ///
    /// - Throws: what went wrong, with the key before it.
    static func doing<Result>(_ key: String, _ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch {
            throw ServiceFailure("\(key): \(error)")
        }
    }

    private static func passedSocket(_ descriptor: Int32) throws -> PassedSocket {
        do {
            return try PassedSocket.take(descriptor)
        } catch {
            throw ServiceFailure(
                "descriptor \(descriptor) is no Unix stream socket: \(error)")
        }
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
