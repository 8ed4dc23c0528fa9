// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import Logging

/// The main thread: starts the device threads, waits for signals, and ends everything in time.
///
/// It talks to a device only by posting work to its thread, and hears from it only what that leaves
/// for it: in a `StopGate` that it has drained, in an `AnswerBox` what it was asked (`Inquiries`).
final class Supervisor {
    /// How long the devices may drain after SIGTERM.
    private static let drainTime = Duration.milliseconds(600)
    /// How long the main thread waits for them to report; the process is then gone within a second.
    private static let patience = Duration.milliseconds(800)

    private let loop: EventLoop
    private let logger = Logger(label: "service")
    private let manager = ServiceManager()
    private var signals: SignalSource?
    private var devices: [Device] = []
    private var gate: StopGate?
    private var control: ControlServer?
    private var metricsFile: MetricsFile?
    private var watchdog: Watchdog?

    init() throws {
        loop = try EventLoop()
        signals = try SignalSource([SIGTERM, SIGINT], loop: loop, handler: self)
    }

    /// Starts one thread a device, in order, then what the main thread serves.
    ///
    /// When something fails, all that was started before it is stopped.
    func start(_ configuration: ServiceConfiguration) throws {
        do {
            for builder in Composition.builders(for: configuration) {
                let thread = try LoopThread(name: builder.name, builder.build)
                devices.append(Device(name: builder.name, thread: thread))
            }
            try startControl(configuration)
        } catch {
            for device in devices { device.thread.stopAndJoin() }
            throw error
        }
        manager.ready()
        let names = devices.map(\.name).joined(separator: ", ")
        logger.info("started", metadata: ["version": "\(Service.version)", "devices": "\(names)"])
        ProcessEnvironment.releaseStartUpPages()
    }

    private func startControl(_ configuration: ServiceConfiguration) throws {
        let census = Census(
            devices: devices, machine: configuration.machine,
            inquiries: try Inquiries(loop: loop), loop: loop)
        if let path = configuration.controlSocket {
            control = try Composition.doing("--control-socket") {
                try ControlServer(path: path, loop: loop, census: census)
            }
        }
        if let file = configuration.metricsFile {
            metricsFile = try Composition.doing("--metrics-textfile") {
                try MetricsFile(
                    path: file.path, interval: .seconds(Int64(file.intervalSeconds)), loop: loop,
                    census: census)
            }
        }
        watchdog = Watchdog(loop: loop, census: census, manager: manager)
    }

    /// Turns the main thread's loop until a signal has ended the service.
    func runUntilStopped() throws {
        try loop.run()
        logger.info("stopped")
    }

    private func stop() throws {
        manager.stopping()
        control?.close()
        metricsFile?.close()
        let gate = try StopGate(count: devices.count)
        self.gate = gate
        try loop.add(gate.descriptorNumber, interest: .readable, handler: self)
        loop.setTimer(after: Self.patience, handler: self)
        for device in devices {
            device.thread.post { host in host.stop(within: Self.drainTime) { gate.report() } }
        }
    }
}

extension Supervisor: SignalHandler {
    /// The first signal ends the service in good order; that takes less than a second, so another one,
    /// such as whoever started the service sends to its whole group, changes nothing.
    func signalArrived(_ number: Int32) {
        guard gate == nil else { return }
        logger.info("stopping", metadata: ["signal": "\(number)"])
        do {
            try stop()
        } catch {
            logger.error("stopping without draining", metadata: ["error": "\(error)"])
            loop.stop()
        }
    }
}

extension Supervisor: EventHandler, TimerHandler {
    /// Every device has stopped.
    func descriptorReady(_ readiness: Readiness, tag: Int) {
        for device in devices { device.thread.stopAndJoin() }
        loop.stop()
    }

    /// A device has not stopped in time: some storage does not answer.
    ///
    /// The kernel ends what is in flight when the process goes.
    func timerFired(tag: Int) {
        logger.warning("requests in flight did not end in time; stopping all the same")
        loop.stop()
    }
}
