// SPDX-License-Identifier: Apache-2.0

public import Driver
public import LinuxIO
public import SystemPackage

/// A VMM's habits: which messages it sends, in which order.
public protocol VMM: AnyObject, CustomTestStringConvertible {
    /// What kick eventfds of this VMM start at.
    var kickValue: UInt32 { get }

    /// Gets to know the back-end.
    func connect(_ frontEnd: FrontEnd, ringCount: Int) throws

    /// Starts the rings that the guest has set up; the device has `ringCount`.
    func start(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int) throws

    /// Stops the rings; their bases are kept where this VMM asks for them.
    func stop(_ frontEnd: FrontEnd, _ memory: TestMemory, _ rings: [GuestRing], ringCount: Int)
        throws
}

/// A description for the log of the tests.
public protocol CustomTestStringConvertible {
    var testDescription: String { get }
}

extension VMM {
    /// Feature bits that the guest of these rings has chosen.
    func guestFeatures(_ rings: [GuestRing]) -> UInt64 {
        rings.reduce(0) { $0 | $1.driver.features }
    }

    /// Asks each ring where it stopped.
    func keepBases(_ frontEnd: FrontEnd, _ rings: [GuestRing]) throws {
        for ring in rings {
            let reply = try frontEnd.ask(.getRingBase(ring.index))
            let index: UInt32 = FrontEndMessage.integer(reply.payload[0..<4])
            guard index == UInt32(ring.index), reply.payload.count == 8 else {
                throw FrontEndError.noReply(to: MessageType.getRingBase)
            }
            ring.base = FrontEndMessage.integer(reply.payload[4..<8])
        }
    }

    /// Reads the features, and takes of the protocol's features what is in `wanted`.
    func negotiate(
        _ frontEnd: FrontEnd, wanted: UInt64, flags: UInt32 = FrontEnd.requestFlags
    ) throws {
        frontEnd.offeredFeatures = try frontEnd.ask(.getFeatures).integer
        guard frontEnd.offeredFeatures & FeatureBit.protocolFeatures != 0 else { return }
        let chosen = try frontEnd.ask(.getProtocolFeatures).integer & wanted
        try frontEnd.send(.setProtocolFeatures(chosen), flags: flags)
        frontEnd.protocolFeatures = chosen
        guard flags == FrontEnd.needReplyFlags, frontEnd.hasAcknowledgements else { return }
        let code = try frontEnd.readReply(to: MessageType.setProtocolFeatures).integer
        guard code == 0 else {
            throw FrontEndError.refused(request: MessageType.setProtocolFeatures, code: code)
        }
    }
}

/// Makes a back-end channel: the front-end's end stays, the other is sent.
public final class ChannelPair {
    public let frontEndSide: OwnedDescriptor
    private var backEndSide: OwnedDescriptor?

    public init() throws(Errno) {
        let pair = try UnixSocket.pair()
        frontEndSide = try pair.first.duplicate()
        backEndSide = try pair.second.duplicate()
    }

    /// Sends the back-end's end to it and closes our copy.
    public func give(to frontEnd: FrontEnd, needReply: Bool) throws {
        guard let rawValue = backEndSide?.rawValue else { return }
        let message = FrontEndMessage.setBackEndChannel(rawValue)
        if needReply {
            try frontEnd.require(message)
        } else {
            try frontEnd.send(message)
        }
        backEndSide = nil
    }

    /// The bytes that the back-end has sent, if any.
    public func take() throws(Errno) -> [UInt8] {
        Array(try UnixSocket.receive(from: frontEndSide, upTo: 4096).1)
    }
}
