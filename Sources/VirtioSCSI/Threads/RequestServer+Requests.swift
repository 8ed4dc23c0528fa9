// SPDX-License-Identifier: Apache-2.0

public import BlockStorage
import LinuxIO
import SCSI
import Virtio

/// The way of a request on a server.
extension RequestServer {
    /// Of so many transfers one is timed, so that the others cost no clock.
    private static let sampleInterval: UInt64 = 16

    // MARK: Taking

    /// Takes requests until there are no more, or enough for one turn; as the device does.
    func serveRequests(_ served: ServedQueue, budget: Int) {
        guard served.isServed, !isDraining else { return }
        served.queue.suppressNotifications()
        var left = budget
        while left > 0 {
            let (count, ending) = takeTogether(min(left, SCSIDevice.budget), from: served)
            let layout = link.layout
            for place in 0..<count { begin(place, layout, from: served) }
            link.forward(&forwarded)
            left &-= count
            switch ending {
            case .enough: continue
            case .lackOfPlaces: return leaveUnfinished(served)
            case .mistake: return
            case .emptyRing: break
            }
            if left < budget { break }
            if loop.polls { return watch(served) }
            if !served.queue.requestNotifications() { return }
        }
        leaveUnfinished(served)
        loop.deferWork(self)
    }

    /// Takes requests before the first is begun.
    @inline(__always)
    private func takeTogether(_ wanted: Int, from served: ServedQueue) -> (Int, TakeEnding) {
        var count = 0
        defer { link.add(underWay: count) }
        while count < wanted {
            guard let index = reserve() else { return (count, .lackOfPlaces) }
            let buffer: Buffer?
            do throws(VirtqueueError) {
                buffer = try served.queue.take(&requests[index].pieces)
            } catch {
                free(index)
                breakQueue(served, because: "\(error)")
                return (count, .mistake)
            }
            guard let buffer else {
                free(index)
                return (count, .emptyRing)
            }
            requests[index].pieces.slice(buffer.readablePieces).prefetch(toWrite: false)
            requests[index].pieces.slice(buffer.writablePieces).prefetch(toWrite: true)
            taken[count].index = index
            taken[count].buffer = buffer
            count &+= 1
        }
        return (count, .enough)
    }

    /// Goes on with the queue at the end of the turn, or when a place for a request is free.
    private func leaveUnfinished(_ served: ServedQueue) {
        if served.isUnfinished { return }
        served.isUnfinished = true
        unfinishedQueues.append(served)
    }

    // MARK: Places

    @inline(__always)
    private func reserve() -> Int? {
        if firstFree < 0 {
            let made = requests.grow()
            if made.isEmpty { return nil }
            for index in made.reversed() { free(index) }
        }
        let index = firstFree
        firstFree = requests[index].next
        requests[index].pieces.removeAll()
        return index
    }

    @inline(__always)
    private func free(_ index: Int) {
        requests[index].next = firstFree
        firstFree = index
    }

    // MARK: Beginning

    /// Reads a request that was taken, and begins it or leaves it to the device.
    @inline(__always)
    private func begin(
        _ place: Int, _ layout: SCSIDevice.RequestLayout, from served: ServedQueue
    ) {
        guard let buffer = taken[place].buffer else { return }
        let index = taken[place].index
        requests[index].queue = BorrowedReference(served)
        requests[index].bufferID = buffer.id
        requests[index].writablePieces = buffer.writablePieces
        requests[index].senseByteCount = layout.senseByteCount
        requests[index].twin = nil
        requests[index].constrainsTwin = false
        guard buffer.writableLength >= UInt64(layout.responseByteCount) else {
            return refuse(index, from: served)
        }
        let outByteCount = Int(buffer.readableLength) &- layout.headerByteCount
        let inByteCount = Int(buffer.writableLength) &- layout.responseByteCount
        if buffer.isCut { return failCut(index, from: served) }
        guard outByteCount >= 0, outByteCount == 0 || inByteCount == 0,
            let header = RequestHeader(
                requests[index].pieces.slice(buffer.readablePieces),
                cdbByteCount: layout.cdbByteCount)
        else { return fail(index) }
        requests[index].address = header.address
        requests[index].tag = header.tag
        requests[index].command.attribute = header.attribute
        requests[index].command.cdb = header.cdb
        requests[index].command.cdbByteCount = layout.cdbByteCount
        requests[index].command.dataOutByteCount = outByteCount
        requests[index].command.dataInByteCount = inByteCount
        setData(index, buffer, layout)
        execute(index, served)
    }

    /// Names the data after the header, or after the response.
    ///
    /// The list of pieces is not changed any more then.
    @inline(__always)
    private func setData(_ index: Int, _ buffer: Buffer, _ layout: SCSIDevice.RequestLayout) {
        requests[index].command.dataOut = nil
        requests[index].command.dataIn = nil
        if requests[index].command.dataOutByteCount > 0 {
            let range = requests[index].pieces.split(
                buffer.readablePieces, after: layout.headerByteCount)
            requests[index].command.dataOut = requests[index].pieces.slice(range)
        } else if requests[index].command.dataInByteCount > 0 {
            let range = requests[index].pieces.split(
                buffer.writablePieces, after: layout.responseByteCount)
            requests[index].command.dataIn = requests[index].pieces.slice(range)
        }
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
                response: requests[index].pieces.slice(requests[index].writablePieces),
                senseByteCount: requests[index].senseByteCount, pass: pass))
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
        let byteCount = ResponseHeader.byteCount &+ requests[index].senseByteCount
        let pieces = requests[index].pieces.slice(requests[index].writablePieces)
        pieces.storeZeroes(
            at: ResponseHeader.byteCount, byteCount: requests[index].senseByteCount)
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
            index, serial: requests[index].queue?.with { $0.serial } ?? 0,
            pass: requests[index].twin?.with { $0.pass })
        link.forward(&forwarded)
    }

    /// How a failed transfer ends that must not be executed again; nil when it may be.
    ///
    /// Nobody waits for it any more, or another disk may stand at its address by now.
    private func responseToForgotten(_ index: Int) -> Response? {
        if requests[index].queue?.with({ $0.isStopping }) ?? true { return .reset }
        guard let twin = requests[index].twin, let way = routes[requests[index].address],
            twin.with({ twin in way.with { $0 === twin } })
        else { return .targetFailure }
        return nil
    }

    /// Ends a transfer that has failed, and is not executed again.
    private func endForgotten(
        _ index: Int, _ transfer: DiskTwin.Transfer, _ response: Response
    ) {
        let pieces = requests[index].pieces.slice(requests[index].writablePieces)
        let byteCount = ResponseHeader.byteCount + requests[index].senseByteCount
        pieces.storeZeroes(byteCount: byteCount)
        pieces.store(
            ResponseHeader(
                senseLength: 0, residual: transfer.byteCount, status: .good,
                response: response))
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
        requests[index].queue?.with { served in
            put(requests[index].bufferID, writtenLength: writtenLength, to: served)
        }
        link.add(underWay: -1)
        free(index)
    }

    /// A request that is none, but whose response can be written: header cut off, or data both ways.
    @inline(never)
    private func fail(_ index: Int) {
        let pieces = requests[index].pieces.slice(requests[index].writablePieces)
        let byteCount = ResponseHeader.byteCount + requests[index].senseByteCount
        pieces.storeZeroes(byteCount: byteCount)
        pieces.store(
            ResponseHeader(senseLength: 0, residual: 0, status: .good, response: .failure))
        giveBack(index, writtenLength: byteCount)
    }

    /// A request of which a part lies in memory that the front-end does not share.
    @inline(never)
    private func failCut(_ index: Int, from served: ServedQueue) {
        reportCut(served)
        fail(index)
    }

    /// A request that cannot even be answered.
    @inline(never)
    private func refuse(_ index: Int, from served: ServedQueue) {
        giveBack(index, writtenLength: 0)
        breakQueue(served, because: "a request has no room for its response")
    }
}
