// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SCSI
import Synchronization

/// What a device and one of its request servers share.
///
/// The server leaves requests to the device, which gives them back when their responses are
/// written: each in a box of its own, with one letter to the other thread for many.
public final class RequestLink: Sendable {
    /// The server's number among those of the device, from 0.
    let number: Int
    /// How many requests the server may have taken at once.
    ///
    /// All of them may be left to the device, which has places for those of every server.
    let placeLimit: Int
    private let device: DeviceAddress
    private let forwarded = LetterBox<ForwardedRequest>()
    private let returned = LetterBox<ReturnedRequest>()
    /// `RequestLayout`, the CDB's size in the upper half.
    private let sizes = Atomic<UInt64>(0)
    private let taken = Atomic<Int>(0)

    /// A link; on the device's thread.
    ///
    /// - Parameters:
    ///   - number: the server's, from 0.
    ///   - count: how many servers the device has, 1 to 4096.
    ///   - device: whose queues the server serves.
    public init(number: Int, of count: Int, device: SCSIDevice) {
        precondition((1...4096).contains(count), "each server has a chunk of places at least")
        self.number = number
        let chunkCount = GrowingSlab<Int>.chunkCount
        let share = min(CommandTable.shareLimit, CommandTable.apartLimit / count)
        placeLimit = share / chunkCount * chunkCount
        self.device = DeviceAddress(device)
        setLayout(device.layout.value)
    }

    /// Requests that the server has taken and not answered.
    var underWayCount: Int { taken.load(ordering: .relaxed) }

    /// Counts for the device; on the server's thread.
    @inline(__always)
    func add(underWay count: Int) {
        taken.wrappingAdd(count, ordering: .relaxed)
    }

    // MARK: Sizes

    /// The sizes that the driver has chosen.
    @inline(__always)
    var layout: SCSIDevice.RequestLayout {
        let sizes = sizes.load(ordering: .acquiring)
        return SCSIDevice.RequestLayout(
            cdbByteCount: Int(sizes >> 32), senseByteCount: Int(sizes & 0xFFFF_FFFF))
    }

    func setLayout(_ layout: SCSIDevice.RequestLayout) {
        sizes.store(
            UInt64(layout.cdbByteCount) << 32 | UInt64(layout.senseByteCount),
            ordering: .releasing)
    }

    // MARK: To the device

    /// Has something done with the device on its thread.
    func post(_ letter: @escaping @Sendable (SCSIDevice) -> Void) {
        device.post(letter)
    }

    /// Leaves requests to the device.
    func forward(_ requests: inout [ForwardedRequest]) {
        if requests.isEmpty { return }
        if forwarded.put(&requests) { device.post { [self] in $0.takeForwarded(over: self) } }
    }

    /// Takes what the server has left; on the device's thread.
    func takeForwarded(_ requests: inout [ForwardedRequest]) {
        forwarded.take(&requests)
    }

    // MARK: To the server

    /// Gives requests back.
    func giveBack(_ requests: inout [ReturnedRequest], to server: RequestServerAddress) {
        if requests.isEmpty { return }
        if returned.put(&requests) { server.post { $0.takeReturned() } }
    }

    /// Takes what the device has given back; on the server's thread.
    func takeReturned(_ requests: inout [ReturnedRequest]) {
        returned.take(&requests)
    }
}

/// A request that a server has taken, and the device is to execute.
///
/// SAFETY: (Sendable, unchecked) the pieces lie in the server's place for the request, which the
/// server does not touch until the request is given back; the box orders the two.
struct ForwardedRequest: @unchecked Sendable {
    /// The server's place for the request.
    let place: Int
    /// Counts the queues that the server has started.
    let queueSerial: Int
    let address: LUNAddress
    let tag: UInt64
    let command: CommandRequest
    /// The device-writable pieces, from the response on.
    let response: IOVectorSlice
    let senseByteCount: Int
    /// Where it was begun by the server, and has failed: the device leaves the gate.
    let pass: GatePass?
}

/// A request whose response is written.
struct ReturnedRequest: Sendable {
    let place: Int
    let writtenLength: Int
}

/// Where letters to a device go.
struct DeviceAddress: Sendable {
    private let mailbox: Mailbox
    private let device: ThreadBound<SCSIDevice>

    /// The address of a device; on its thread.
    init(_ device: SCSIDevice) {
        mailbox = device.loop.mailbox
        self.device = ThreadBound(device)
    }

    func post(_ letter: @escaping @Sendable (SCSIDevice) -> Void) {
        mailbox.post { [device] in if let device = device.object { letter(device) } }
    }
}

/// Where letters to a request server go; with its link what a device holds of it.
public struct RequestServerAddress: Sendable {
    let link: RequestLink
    private let mailbox: Mailbox
    private let server: ThreadBound<RequestServer>

    /// The address of a server; on its thread.
    init(_ server: RequestServer) {
        link = server.link
        mailbox = server.loop.mailbox
        self.server = ThreadBound(server)
    }

    /// Has something done with the server on its thread.
    public func post(_ letter: @escaping @Sendable (RequestServer) -> Void) {
        mailbox.post { [server] in if let server = server.object { letter(server) } }
    }
}
