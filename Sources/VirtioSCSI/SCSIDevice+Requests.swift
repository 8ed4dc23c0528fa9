// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SCSI
import Virtio

/// The request queues (virtio 1.3 §5.6.6.1).
extension SCSIDevice {
    // MARK: Beginning

    /// A place for a request; nil when as many are under way as may be.
    @inline(__always)
    func reserve() -> Int? {
        guard let index = bus.commands.reserve() else { return nil }
        if requests.count <= index { growRequests(toHold: index) }
        return index
    }

    /// There are as many requests as commands, sooner or later.
    @inline(never)
    func growRequests(toHold index: Int) {
        while requests.count <= index { _ = requests.grow() }
    }

    @inline(__always)
    func free(_ index: Int) {
        bus.commands.release(index)
    }

    @inline(__always)
    func take(into index: Int, from served: ServedQueue) throws(VirtqueueError) -> Buffer? {
        try requests[index].frame.take(from: served)
    }

    func store(_ response: Response, for index: Int) -> Int {
        requests[index].frame.store(response, residual: 0)
    }

    /// Executes the requests that were taken together.
    @inline(__always)
    func beginTaken(_ count: Int, from served: ServedQueue) {
        for place in 0..<count {
            guard let buffer = taken[place].buffer else { continue }
            let index = taken[place].index
            let layout = layout.value
            let content = requests[index].frame.open(buffer, layout, from: served)
            guard let header = accept(content, at: index, from: served) else { continue }
            commands[index].address = header.address
            commands[index].tag = header.tag
            requests[index].frame.fill(&commands[index].request, header, buffer, layout)
            bus.execute(index)
        }
    }

    // MARK: Answering

    /// Writes the response to a command that has ended, and gives its buffer back.
    @inline(__always)
    func answer(_ index: Int) {
        let senseByteCount = requests[index].frame.senseByteCount
        let pieces = response(of: index)
        var senseLength = 0
        if commands[index].status == .checkCondition {
            senseLength = storeSense(of: index, in: pieces, byteCount: senseByteCount)
        }
        pieces.storeZeroes(
            at: ResponseHeader.byteCount &+ senseLength, byteCount: senseByteCount &- senseLength)
        pieces.store(
            ResponseHeader(
                senseLength: senseLength, residual: bus.commands.residualByteCount(of: index),
                status: commands[index].status,
                response: Response(
                    commands[index].response, isOverrun: commands[index].isOverrun)))
        let moved =
            commands[index].direction == .in ? commands[index].movedByteCount : 0
        giveBack(
            index, writtenLength: ResponseHeader.byteCount &+ senseByteCount &+ moved)
    }

    /// Writes the sense data of a command, as far as there is room; returns how far.
    @inline(never)
    private func storeSense(
        of index: Int, in pieces: IOVectorSlice, byteCount: Int
    ) -> Int {
        let sense = commands[index].sense
        let length = min(sense.count, byteCount)
        pieces.store(sense, byteCount: length, at: ResponseHeader.byteCount)
        return length
    }

    /// The device-writable pieces of a request, from the response on.
    @inline(__always)
    private func response(of index: Int) -> IOVectorSlice {
        if let origin = requests[index].origin { return origin.response }
        return requests[index].frame.response
    }

    @inline(__always)
    func giveBack(_ index: Int, writtenLength: Int) {
        if requests[index].origin != nil { giveBackToServer(index, writtenLength: writtenLength) }
        requests[index].frame.queue?.with { served in
            put(requests[index].frame.bufferID, writtenLength: writtenLength, to: served)
        }
        bus.commands.release(index)
    }
}
