// SPDX-License-Identifier: Apache-2.0

// One front-end, from its connection to its end (vhost-user, "Communication").
//
// What belongs to the connection: the memory table, the protocol features, the error descriptors,
// the back-end channel, the dirty log. RESET_DEVICE, RESET_OWNER and GET_VRING_BASE leave them alone, because
// front-ends do not send them again. What belongs to the driver: the features, the rings and the
// device's own state, which RESET_DEVICE ends.
//
// One request at a time. A request that has to wait for requests in flight (a ring stops, memory
// goes) holds the connection until the queues have drained, and is answered then; how long that
// may take is bounded by `DrainLimits`. Everything else is answered before the next is read.
//
// A refusal is told to whoever waits for an acknowledgement. Where nobody does, the session ends,
// unless both sides still mean the same (`VhostUserError.consequence`).

import LinuxIO
import Logging
import SystemPackage
import Virtio

/// One front-end that is being served.
///
/// Lives on its device's thread.
final class Session {
    /// How a request ended.
    enum Outcome {
        /// Done; acknowledged if asked for.
        case done
        /// Answered with a body.
        case reply([UInt8])
        /// Not yet: `conclude` is called later, and the connection is held until then.
        case pending
    }

    /// What has to be known of a request in order to answer it.
    struct Exchange {
        let request: UInt32
        let name: String
        let needsReply: Bool

        init(_ message: Message) {
            request = message.header.request
            name = message.name
            needsReply = message.header.needsReply
        }
    }

    let loop: EventLoop
    let device: any VirtioDevice
    let options: VhostUserOptions
    let logger: Logger
    let orphanage: Orphanage
    let connection: Connection
    private let parser: RequestParser
    let ended: () -> Void
    /// See `VhostUserServer.guestStarts` and `guestStopped`.
    var guestStarts: () -> Void = {}
    var guestStopped: () -> Void = {}

    /// What may be chosen of the device's features.
    let offeredFeatures: VirtioFeatures
    /// What may be chosen of the protocol's features.
    let offeredProtocolFeatures: ProtocolFeatures

    // Of the connection.
    var protocolFeatures: ProtocolFeatures = []
    var hasProtocolFeatures = false
    var memory = MemoryTable()
    var backEndChannel: BackEndChannel?
    let migrationLog = MigrationLog()
    var owesConfigurationChange = false

    // Of the driver.
    var features: VirtioFeatures?
    var announcedFeatures: VirtioFeatures?
    var rings: [Ring] = []

    /// When refusals were logged, by request; all that are unknown together.
    private var refusalGates: [RequestCode?: LogGate] = [:]

    /// What is being waited for; nothing starts meanwhile.
    var drain: Drain?
    var isEnding = false

    /// Makes a session for a connection that has not been started; `start` begins it.
    ///
    /// No other session may use the device. `ended` is called once, when the front-end has gone and
    /// everything has been cleared up.
    init(
        connection: Connection, loop: EventLoop, device: any VirtioDevice,
        options: VhostUserOptions, logger: Logger, orphanage: Orphanage,
        ended: @escaping () -> Void
    ) {
        self.connection = connection
        self.loop = loop
        self.device = device
        self.options = options
        self.logger = logger
        self.orphanage = orphanage
        self.ended = ended
        parser = RequestParser(ringCount: device.queueCount)
        offeredFeatures = device.offeredFeatures.union([.protocolFeatures, .logAll])
            .subtracting(options.withheld.device)
        offeredProtocolFeatures = ProtocolFeatures.implemented
            .subtracting(options.withheld.transport)
        rings = (0..<device.queueCount).map {
            Ring(index: $0, loop: loop, device: device, handler: self)
        }
    }

    /// Starts to read.
    func start() throws(Errno) {
        try connection.start(self)
    }
}

// MARK: Requests

extension Session: ConnectionHandler {
    func received(_ message: Message) {
        let exchange = Exchange(message)
        logger.trace("request", metadata: ["request": "\(exchange.name)"])
        do throws(VhostUserError) {
            let request = try parser.parse(message, negotiated: protocolFeatures)
            let outcome = try serve(request, message.descriptors, exchange)
            conclude(exchange, outcome)
        } catch {
            refuse(exchange, error)
        }
    }

    func connectionEnded(_ error: VhostUserError?) {
        if let error {
            logger.notice("front-end broke the protocol", metadata: ["error": "\(error)"])
        }
        end()
    }

    private func serve(
        _ request: Request, _ descriptors: ReceivedDescriptors, _ exchange: Exchange
    ) throws(VhostUserError) -> Outcome {
        switch request {
        case .getFeatures: .integer(offeredFeatures.rawValue)
        case .setFeatures(let chosen): try setFeatures(chosen, exchange)
        case .setOwner: .done
        case .resetOwner: try resetOwner(exchange)
        case .setMemoryTable(let table): try setMemoryTable(table, descriptors, exchange)
        case .setLogBase(let area): try setLogBase(area, descriptors, exchange)
        case .setRingSize(let value): try setRingSize(value)
        case .setRingAddresses(let index, let addresses):
            try setRingAddresses(rings[index], addresses)
        case .setRingBase(let value): try setRingBase(value, exchange)
        case .getRingBase(let index): try getRingBase(rings[index], exchange)
        case .setRingKick(let kick): try setRingKick(kick, descriptors)
        case .setRingCall(let call): try setRingCall(call, descriptors)
        case .setRingError(let error): try setRingError(error, descriptors)
        case .getProtocolFeatures: .integer(offeredProtocolFeatures.rawValue)
        case .setProtocolFeatures(let chosen): try setProtocolFeatures(chosen)
        case .getQueueCount: .integer(UInt64(rings.count))
        case .setRingEnable(let index, let isEnabled):
            try setRingEnable(rings[index], isEnabled, exchange)
        case .setBackEndChannel: try setBackEndChannel(descriptors)
        case .getConfiguration(let range): getConfiguration(range)
        case .setConfiguration(let range, let bytes): try setConfiguration(range, bytes)
        case .resetDevice: try resetDevice(exchange)
        case .getMemorySlotCount: .integer(UInt64(MemoryTable.slotCount))
        case .addMemoryRegion(let region): try addMemoryRegion(region, descriptors, exchange)
        case .removeMemoryRegion(let region): try removeMemoryRegion(region, exchange)
        }
    }

    /// Answers a request that has been served.
    func conclude(_ exchange: Exchange, _ outcome: Outcome) {
        switch outcome {
        case .done: acknowledge(exchange, success: true)
        case .reply(let payload):
            connection.send(MessageHeader.reply(to: exchange.request, payload: payload))
        case .pending: connection.hold()
        }
    }

    /// Answers a request that could not be served.
    func refuse(_ exchange: Exchange, _ error: VhostUserError) {
        report(exchange, error)
        let isTold = acknowledge(exchange, success: false)
        switch error.consequence {
        case .none: break
        case .endUnlessAcknowledged: if !isTold { end() }
        case .end: end()
        }
    }

    /// Logs a refusal, unless one of the same request was logged just now: a driver can make its
    /// front-end repeat some of them at will.
    private func report(_ exchange: Exchange, _ error: VhostUserError) {
        let key = RequestCode(rawValue: exchange.request)
        guard refusalGates[key, default: LogGate()].opens(at: loop.now) else { return }
        logger.notice(
            "request refused", metadata: ["request": "\(exchange.name)", "error": "\(error)"])
    }

    /// Sends an acknowledgement if the front-end waits for one.
    ///
    /// - Returns: whether it does.
    @discardableResult
    private func acknowledge(_ exchange: Exchange, success: Bool) -> Bool {
        let hasBody = RequestCode(rawValue: exchange.request)?.form?.hasReplyBody ?? false
        guard exchange.needsReply, protocolFeatures.contains(.replyAcknowledgement), !hasBody
        else { return false }
        conclude(exchange, .integer(success ? 0 : 1))
        return true
    }
}

extension Session.Outcome {
    /// A reply of one u64.
    static func integer(_ value: UInt64) -> Session.Outcome {
        var writer = PayloadWriter()
        writer.append(value)
        return .reply(writer.bytes)
    }
}
