// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SCSI
import Virtio

/// The request queues (virtio 1.3 §5.6.6.1).
extension SCSIDevice {
    // MARK: Taking

    /// Takes requests until there are no more, or enough for one turn.
    ///
    /// A queue that has brought some is looked at again when they, or others, were answered: so
    /// neither side has to notify the other while both are busy.
    func serveRequests(_ served: ServedQueue, budget: Int) {
        guard served.isServed, !isDraining else { return }
        served.queue.suppressNotifications()
        var left = budget
        while left > 0 {
            let (count, ending) = takeTogether(min(left, Self.budget), from: served)
            for place in 0..<count { begin(place, from: served) }
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

    /// Takes requests, at most as many as there is room for in `taken`, before the first is begun.
    ///
    /// So the processor has them at hand then: the driver's processor wrote them, and to wait for one
    /// after the other costs more than to execute them.
    @inline(__always)
    private func takeTogether(
        _ wanted: Int, from served: ServedQueue
    ) -> (count: Int, TakeEnding) {
        var count = 0
        while count < wanted {
            guard let index = reserve() else { return (count, .lackOfPlaces) }
            let buffer: Buffer?
            do throws(VirtqueueError) {
                buffer = try served.queue.take(&requests[index].pieces)
            } catch {
                bus.commands.release(index)
                breakQueue(served, because: "\(error)")
                return (count, .mistake)
            }
            guard let buffer else {
                bus.commands.release(index)
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

    /// Goes on with the queue at the end of the turn, or when a place for a command is free.
    private func leaveUnfinished(_ served: ServedQueue) {
        if served.isUnfinished { return }
        served.isUnfinished = true
        unfinishedQueues.append(served)
    }

    /// A place for a request; nil when as many are under way as may be.
    @inline(__always)
    func reserve() -> Int? {
        guard let index = bus.commands.reserve() else { return nil }
        while requests.count <= index { _ = requests.grow() }
        requests[index].pieces.removeAll()
        return index
    }

    /// Reads a request that was taken, and executes it.
    @inline(__always)
    private func begin(_ place: Int, from served: ServedQueue) {
        guard let buffer = taken[place].buffer else { return }
        let index = taken[place].index
        let sizes = layout.value
        requests[index].queue = BorrowedReference(served)
        requests[index].bufferID = buffer.id
        requests[index].writablePieces = buffer.writablePieces
        requests[index].senseByteCount = sizes.senseByteCount
        guard buffer.writableLength >= UInt64(sizes.responseByteCount) else {
            return refuse(index, from: served)
        }
        let outByteCount = Int(buffer.readableLength) &- sizes.headerByteCount
        let inByteCount = Int(buffer.writableLength) &- sizes.responseByteCount
        if buffer.isCut { return failCut(index, from: served) }
        guard outByteCount >= 0, outByteCount == 0 || inByteCount == 0,
            let header = RequestHeader(
                requests[index].pieces.slice(buffer.readablePieces),
                cdbByteCount: sizes.cdbByteCount)
        else { return fail(index) }
        fill(index, header, cdbByteCount: sizes.cdbByteCount)
        setData(index, buffer, outByteCount: outByteCount, inByteCount: inByteCount)
        bus.execute(index)
    }

    @inline(__always)
    private func fill(_ index: Int, _ header: RequestHeader, cdbByteCount: Int) {
        commands[index].address = header.address
        commands[index].tag = header.tag
        commands[index].attribute = header.attribute
        commands[index].cdb = header.cdb
        commands[index].cdbByteCount = cdbByteCount
    }

    /// Names the data after the header, or after the response, to the command.
    @inline(__always)
    private func setData(_ index: Int, _ buffer: Buffer, outByteCount: Int, inByteCount: Int) {
        commands[index].dataOutByteCount = outByteCount
        commands[index].dataInByteCount = inByteCount
        if outByteCount > 0 {
            let range = requests[index].pieces.split(
                buffer.readablePieces, after: layout.value.headerByteCount)
            commands[index].dataOut = requests[index].pieces.slice(range)
        } else {
            commands[index].dataOut = nil
        }
        if inByteCount > 0 {
            let range = requests[index].pieces.split(
                buffer.writablePieces, after: layout.value.responseByteCount)
            commands[index].dataIn = requests[index].pieces.slice(range)
        } else {
            commands[index].dataIn = nil
        }
    }

    // MARK: Answering

    /// Writes the response to a command that has ended, and gives its buffer back.
    @inline(__always)
    func answer(_ index: Int) {
        let senseByteCount = requests[index].senseByteCount
        let pieces = response(of: index)
        var senseLength = 0
        if commands[index].status == .checkCondition {
            let sense = commands[index].sense
            senseLength = min(sense.count, senseByteCount)
            pieces.store(sense, byteCount: senseLength, at: ResponseHeader.byteCount)
        }
        pieces.storeZeroes(
            at: ResponseHeader.byteCount &+ senseLength, byteCount: senseByteCount &- senseLength)
        pieces.store(
            ResponseHeader(
                senseLength: senseLength, residual: commands[index].residualByteCount,
                status: commands[index].status,
                response: Response(
                    commands[index].response, isOverrun: commands[index].isOverrun)))
        let moved =
            commands[index].direction == .in ? commands[index].movedByteCount : 0
        giveBack(
            index, writtenLength: ResponseHeader.byteCount &+ senseByteCount &+ moved)
    }

    /// The device-writable pieces of a request, from the response on.
    @inline(__always)
    private func response(of index: Int) -> IOVectorSlice {
        if let origin = requests[index].origin { return origin.response }
        return requests[index].pieces.slice(requests[index].writablePieces)
    }

    @inline(__always)
    private func giveBack(_ index: Int, writtenLength: Int) {
        if requests[index].origin != nil { giveBackToServer(index, writtenLength: writtenLength) }
        requests[index].queue?.with { served in
            put(requests[index].bufferID, writtenLength: writtenLength, to: served)
        }
        bus.commands.release(index)
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

/// Why no more requests were taken.
enum TakeEnding {
    case enough, emptyRing, lackOfPlaces, mistake
}

/// A request between being taken and being begun.
struct TakenRequest: ~Copyable {
    /// Its place among the commands.
    var index = 0
    var buffer: Buffer?
}
