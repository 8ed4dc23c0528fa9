// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import LinuxIO
import Logging
import SystemPackage

/// Serves the control socket, on the main thread.
///
/// The protocol: a line of JSON, a `ControlRequest`; a line of JSON, its `ControlReply`; and so on
/// for as long as the client likes. The socket is its owner's alone: whoever may write to it may change
/// the service, and a virtual machine monitor that a guest has taken over must not.
final class ControlServer {
    /// Clients at a time.
    private static let clientLimit = 16
    /// How long the listener is left alone when there is no descriptor for a connection.
    private static let acceptPause = Duration.milliseconds(100)

    private let loop: EventLoop
    private var listener: UnixListener?
    private let census: Census
    private let log = Logger(label: "control")
    private var registration: Registration?
    private var clients: [ObjectIdentifier: LineConnection] = [:]

    /// Listens at a path that was checked before.
    init(path: String, loop: EventLoop, census: Census) throws {
        self.loop = loop
        self.census = census
        let listener = try Composition.listener(at: path, permissions: 0o600)
        self.listener = listener
        registration = try loop.add(
            listener.descriptorNumber, interest: .readable, handler: self)
    }

    /// Stops listening and ends every connection.
    func close() {
        if let registration { loop.remove(registration) }
        registration = nil
        listener = nil
        for client in clients.values { client.close() }
        clients = [:]
    }
}

// MARK: Clients

extension ControlServer: EventHandler, TimerHandler, LineHandler {
    func descriptorReady(_ readiness: Readiness, tag: Int) {
        do throws(Errno) {
            while let socket = try listener?.accept() {
                // Over the limit: the socket is closed at once, which the client sees.
                guard clients.count < Self.clientLimit else { continue }
                let client = try LineConnection(taking: socket, loop: loop, handler: self)
                clients[ObjectIdentifier(client)] = client
            }
        } catch {
            log.warning("cannot accept a connection", metadata: ["error": "\(error)"])
            listen(false)
            loop.setTimer(after: Self.acceptPause, handler: self)
        }
    }

    /// The pause after a failed accept is over.
    func timerFired(tag: Int) { listen(true) }

    private func listen(_ isListening: Bool) {
        guard let registration else { return }
        // Changing what a registered, open descriptor is watched for does not fail.
        try? loop.modify(registration, interest: isListening ? .readable : [])
    }

    func connectionEnded(_ connection: LineConnection) {
        clients[ObjectIdentifier(connection)] = nil
    }

    func lineReceived(_ line: [UInt8], reply: @escaping ([UInt8]) -> Void) {
        let request: ControlRequest
        do {
            request = try JSONDecoder().decode(ControlRequest.self, from: Data(line))
        } catch {
            let known = ControlRequest.Command.allCases.map(\.rawValue).joined(separator: ", ")
            let problem = "no request; a request is {\"command\": C, ...} with C one of \(known)"
            return reply(Self.encode(ControlReply(error: problem)))
        }
        serve(request) { reply(Self.encode($0)) }
    }

    private static func encode(_ reply: ControlReply) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Strings and whole numbers can always be encoded.
        guard let data = try? encoder.encode(reply) else { return Array("{}".utf8) }
        return Array(data)
    }
}

// MARK: Requests

extension ControlServer {
    private func serve(_ request: ControlRequest, reply: @escaping (ControlReply) -> Void) {
        switch request.command {
        case .status: census.take { reply(ControlReply(status: $0)) }
        case .metrics: census.take { reply(ControlReply(metrics: $0.metrics(.openMetrics))) }
        case .addUnit: addUnit(request, reply)
        case .removeUnit: withPlace(request, reply) { .removeUnit($0) }
        case .resizeUnit: withPlace(request, reply) { .resizeUnit($0) }
        case .limitUnit:
            guard let limits = request.limits else { return reply(.missing("limits")) }
            withPlace(request, reply) { .limitUnit($0, limits) }
        case .connections: listConnections(reply)
        case .drain: drain(true, reply)
        case .resume: drain(false, reply)
        case .logLevel: setLogLevel(request, reply)
        }
    }

    private func listConnections(_ reply: @escaping (ControlReply) -> Void) {
        let census = census
        census.take { status in
            census.inquiries.ask(census.devices, .connections) { answers in
                var connections: [ConnectionStatus] = []
                for case .connections(let more) in answers { connections += more }
                reply(ControlReply(status: status, connections: connections))
            }
        }
    }

    private func drain(_ isDraining: Bool, _ reply: @escaping (ControlReply) -> Void) {
        census.inquiries.ask(census.devices, .drain(isDraining)) { answers in
            for case .silent(let name) in answers { return reply(.silent(name)) }
            reply(ControlReply(message: isDraining ? "draining" : "taking requests again"))
        }
    }

    private func addUnit(
        _ request: ControlRequest, _ reply: @escaping (ControlReply) -> Void
    ) {
        guard let text = request.unit else { return reply(.missing("unit")) }
        do throws(ConfigurationError) {
            ask(.addUnit(try LUNSpecification(text)), reply)
        } catch {
            reply(ControlReply(error: error.description))
        }
    }

    private func withPlace(
        _ request: ControlRequest, _ reply: @escaping (ControlReply) -> Void,
        _ question: (UnitPlace) -> DeviceQuestion
    ) {
        guard let place = request.place else { return reply(.missing("place")) }
        ask(question(place), reply)
    }

    private func setLogLevel(_ request: ControlRequest, _ reply: (ControlReply) -> Void) {
        guard let text = request.level, let level = LogLevel(rawValue: text) else {
            let known = LogLevel.allCases.map(\.rawValue).joined(separator: ", ")
            return reply(ControlReply(error: "'level' is one of \(known)"))
        }
        LoggingSetup.level = level
        reply(ControlReply(message: "log level is \(level.rawValue)"))
    }

    private func ask(_ question: DeviceQuestion, _ reply: @escaping (ControlReply) -> Void) {
        guard let device = census.devices.first(where: { $0.name == "scsi" }) else {
            return reply(ControlReply(error: "the service has no SCSI device"))
        }
        census.inquiries.ask([device], question) { answers in
            switch answers.first {
            case .done(let message): reply(ControlReply(message: message))
            case .refused(let problem): reply(ControlReply(error: problem))
            case .silent(let name):
                reply(.silent(name))
            default: reply(ControlReply(error: "an answer to another question"))
            }
        }
    }
}

extension ControlReply {
    fileprivate static func silent(_ device: String) -> ControlReply {
        ControlReply(error: "the thread of device \(device) does not answer")
    }

    fileprivate static func missing(_ key: String) -> ControlReply {
        ControlReply(error: "the request needs '\(key)'")
    }
}
