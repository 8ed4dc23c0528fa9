// SPDX-License-Identifier: Apache-2.0

public import BlockStorage
import LinuxIO
import SCSI
import Virtio

/// The way of a request on a server.
extension RequestServer {
    /// Of so many transfers one is timed, so that the others cost no clock.
    private static let sampleInterval: UInt64 = 16

    // MARK: Places

    @inline(__always)
    func reserve() -> Int? {
        if firstFree < 0 {
            guard growRequests() else { return nil }
        }
        let index = firstFree
        firstFree = requests[index].next
        return index
    }

    @inline(never)
    private func growRequests() -> Bool {
        let made = requests.grow()
        for index in made.reversed() { free(index) }
        return !made.isEmpty
    }

    @inline(__always)
    func free(_ index: Int) {
        requests[index].next = firstFree
        firstFree = index
    }

    // MARK: Beginning

    @inline(__always)
    func take(into index: Int, from served: ServedQueue) throws(VirtqueueError) -> Buffer? {
        try requests[index].frame.take(from: served)
    }

    func store(_ response: Response, for index: Int) -> Int {
        requests[index].frame.store(response, residual: 0)
    }

    /// Begins the requests that were taken together, or leaves them to the device.
    @inline(__always)
    func beginTaken(_ count: Int, from served: ServedQueue) {
        link.add(underWay: count)
        let layout = link.layout
        for place in 0..<count {
            guard let buffer = taken[place].buffer else { continue }
            let index = taken[place].index
            requests[index].twin = nil
            requests[index].constrainsTwin = false
            let content = requests[index].frame.open(buffer, layout, from: served)
            guard let header = accept(content, at: index, from: served) else { continue }
            requests[index].address = header.address
            requests[index].tag = header.tag
            requests[index].frame.fill(&requests[index].command, header, buffer, layout)
            execute(index, served)
        }
        if !forwarded.isEmpty { leaveForwarded() }
    }

    /// Leaves to the device what is its.
    @inline(never)
    func leaveForwarded() {
        link.forward(&forwarded)
    }

    @inline(__always)
    private func execute(_ index: Int, _ served: ServedQueue) {
        if let twin = routes[requests[index].address] {
            requests[index].twin = twin
            let transfer = twin.with {
                $0.begin(
                    requests[index].command, owner: self, token: UInt64(truncatingIfNeeded: index))
            }
            if let transfer {
                requests[index].transfer = transfer
                return noteStart(index)
            }
        }
        forward(index, serial: served.serial)
    }

    @inline(__always)
    private func noteStart(_ index: Int) {
        begunCount &+= 1
        requests[index].start = begunCount & (Self.sampleInterval - 1) == 1 ? loop.now : nil
    }

    /// Leaves a request to the device.
    @inline(never)
    private func forward(_ index: Int, serial: Int, pass: GatePass? = nil) {
        // Those that come after an ORDERED one must not pass it by here.
        if requests[index].command.attribute != .simple, let twin = requests[index].twin {
            twin.with { $0.constraintCount += 1 }
            requests[index].constrainsTwin = true
        }
        forwarded.append(
            ForwardedRequest(
                place: index, queueSerial: serial, address: requests[index].address,
                tag: requests[index].tag, command: requests[index].command,
                response: requests[index].frame.response,
                senseByteCount: requests[index].frame.senseByteCount, pass: pass))
        loop.deferWork(self)
    }

    // MARK: Ending

    /// A twin's transfer has ended.
    @inline(__always)
    public func blockRequestEnded(token: UInt64, outcome: BlockOutcome) {
        let index = Int(truncatingIfNeeded: token)
        guard let transfer = requests[index].transfer else { return }
        requests[index].transfer = nil
        guard case .done = outcome else { return leaveFailed(index, transfer) }
        if let start = requests[index].start { noteEnd(index, since: start) }
        let byteCount = requests[index].frame.responseByteCount
        let pieces = requests[index].frame.response
        pieces.storeZeroes(
            at: ResponseHeader.byteCount, byteCount: requests[index].frame.senseByteCount)
        pieces.store(
            ResponseHeader(senseLength: 0, residual: 0, status: .good, response: .ok))
        requests[index].twin?.with { $0.end(transfer, isDone: true) }
        giveBack(
            index, writtenLength: byteCount &+ (transfer.isRead ? transfer.byteCount : 0))
    }

    @inline(never)
    private func noteEnd(_ index: Int, since start: Instant) {
        let elapsed = loop.now.nanoseconds &- start.nanoseconds
        requests[index].twin?.with { $0.note(microseconds: elapsed / 1000) }
    }

    /// What has failed here is executed again by the disk, which says exactly what is wrong.
    ///
    /// It is under way until the disk has it: whoever waits for that finds it there.
    @inline(never)
    private func leaveFailed(_ index: Int, _ transfer: DiskTwin.Transfer) {
        if let response = responseToForgotten(index) {
            return endForgotten(index, transfer, response)
        }
        forward(
            index, serial: requests[index].frame.queue?.with { $0.serial } ?? 0,
            pass: requests[index].twin?.with { $0.pass })
        link.forward(&forwarded)
    }

    /// How a failed transfer ends that must not be executed again; nil when it may be.
    ///
    /// Nobody waits for it any more, or another disk may stand at its address by now.
    private func responseToForgotten(_ index: Int) -> Response? {
        if requests[index].frame.queue?.with({ $0.isStopping }) ?? true { return .reset }
        guard let twin = requests[index].twin, let way = routes[requests[index].address],
            twin.with({ twin in way.with { $0 === twin } })
        else { return .targetFailure }
        return nil
    }

    /// Ends a transfer that has failed, and is not executed again.
    private func endForgotten(
        _ index: Int, _ transfer: DiskTwin.Transfer, _ response: Response
    ) {
        let byteCount = requests[index].frame.store(response, residual: transfer.byteCount)
        requests[index].twin?.with { $0.end(transfer, isDone: false) }
        giveBack(index, writtenLength: byteCount)
    }

    /// Puts a buffer, and frees its place.
    @inline(__always)
    func giveBack(_ index: Int, writtenLength: Int) {
        if requests[index].constrainsTwin {
            requests[index].constrainsTwin = false
            requests[index].twin?.with { $0.constraintCount -= 1 }
        }
        requests[index].frame.queue?.with { served in
            put(requests[index].frame.bufferID, writtenLength: writtenLength, to: served)
        }
        link.add(underWay: -1)
        free(index)
    }
}
