// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import LinuxIO
import Logging
import VhostUser
import VirtioVsock

/// A vsock device with its server.
///
/// It lives on its device's thread.
final class VsockHost: DeviceHost {
    private let configuration: VsockConfiguration
    private let device: VsockDevice
    private let server: VhostUserServer
    private let log = Logger(label: "vsock")

    init(
        _ configuration: VsockConfiguration, loop: EventLoop, options: VhostUserOptions
    ) throws {
        self.configuration = configuration
        try Self.checkSiblings(configuration.settings.siblingDirectory)
        let device: VsockDevice
        do throws(VsockError) {
            device = try VsockDevice(
                loop: loop, options: configuration.options, logger: Logger(label: "vsock"))
        } catch {
            throw ServiceFailure("\(Self.key(of: error, configuration).flag): \(error)")
        }
        self.device = device
        server = try Composition.doing("--vsock-socket") {
            try Composition.server(
                of: device, at: configuration.socketPath, or: configuration.descriptor,
                loop: loop, options: options)
        }
    }

    /// What asks for that which cannot be made.
    private static func key(
        of error: VsockError, _ configuration: VsockConfiguration
    ) -> ConfigurationKey {
        switch error {
        case .capture: return .vsock(.capture)
        case .hostVsock: return .vsock(.listen)
        case .listener(let failure):
            let settings = configuration.settings
            if settings.listeners.values.contains(failure.path) { return .vsock(.listen) }
            if let directory = settings.siblingDirectory, failure.path.hasPrefix(directory) {
                return .vsock(.siblings)
            }
            return .vsockPath
        default: return .vsockPath
        }
    }

    /// The directory is not made here: all services of a group have it, as whatever users.
    private static func checkSiblings(_ directory: String?) throws {
        guard let directory else { return }
        var isDirectory = false
        guard FileManager.default.fileExists(atPath: directory, isDirectory: &isDirectory),
            isDirectory
        else {
            throw ServiceFailure(
                "--vsock-siblings: \(directory): no such directory; make one in which the services "
                    + "of all siblings may make their sockets")
        }
    }

    func stop(within limit: Duration, _ body: @escaping @Sendable () -> Void) {
        server.frontEndLeft = nil
        server.stop(deadline: limit) { [device] in
            device.close()
            body()
        }
    }

    func answer(
        _ question: DeviceQuestion, _ reply: @escaping @Sendable (DeviceAnswer) -> Void
    ) {
        switch question {
        case .areYouThere: reply(.here)
        case .status: reply(.vsock(status))
        case .connections:
            reply(.connections(device.connections.map { ConnectionStatus($0) }))
        case .drain(let isDraining): reply(drain(isDraining))
        case .addUnit, .removeUnit, .resizeUnit, .limitUnit:
            reply(.refused("a vsock device has no logical units"))
        }
    }

    private func drain(_ isDraining: Bool) -> DeviceAnswer {
        device.isDraining = isDraining
        log.info(isDraining ? "draining" : "making connections again")
        return .done("")
    }

    private var status: VsockStatus {
        let counts = device.statistics
        var status = VsockStatus(
            socket: configuration.socketPath, isFrontEndConnected: server.isServing,
            guestCID: configuration.guestCID, path: configuration.path,
            connectionCount: device.connectionCount)
        status.isDraining = device.isDraining
        status.packetsFromGuest = counts.packetsFromGuest
        status.bytesFromGuest = counts.bytesFromGuest
        status.packetsToGuest = counts.packetsToGuest
        status.bytesToGuest = counts.bytesToGuest
        status.requestsFromGuest = counts.requestsFromGuest
        status.requestsToGuest = counts.requestsToGuest
        status.creditStalls = counts.creditStalls
        status.receiveBufferStalls = counts.receiveBufferStalls
        status.malformedPackets = counts.malformedPackets
        status.foreignPackets = counts.foreignPackets
        status.refusals = counts.refusals
        status.resets = counts.resets
        status.failedHandshakes = counts.failedHandshakes
        status.failedConnects = counts.failedConnects
        status.rests = counts.rests
        status.violations = counts.violations
        status.forbiddenConnects = counts.forbiddenConnects
        status.transportResets = counts.transportResets
        status.uncapturedPackets = counts.uncapturedPackets
        return status
    }
}

extension ConnectionStatus {
    /// What the device says of a connection.
    fileprivate init(_ connection: VsockConnectionStatistics) {
        self.init(
            guestPort: connection.guestPort.rawValue, peerCID: connection.peer.rawValue,
            peerPort: connection.peerPort.rawValue,
            type: connection.carriesMessages ? "messages" : "stream")
        packetsFromGuest = connection.traffic.packetsFromGuest
        bytesFromGuest = connection.traffic.bytesFromGuest
        packetsToGuest = connection.traffic.packetsToGuest
        bytesToGuest = connection.traffic.bytesToGuest
        creditStalls = connection.traffic.creditStalls
        waitingByteCount = UInt64(connection.waitingByteCount)
        guestCredit = UInt64(max(0, connection.guestCredit))
    }
}

extension VsockConfiguration {
    /// What the configuration says, as the device takes it.
    var options: VsockOptions {
        var options = VsockOptions(guestCID: guestCID, path: path)
        settings.apply(to: &options)
        return options
    }
}
