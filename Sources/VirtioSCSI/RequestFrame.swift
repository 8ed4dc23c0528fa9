// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SCSI
import Virtio

/// What is kept of a request that was taken from a ring, to answer it.
struct RequestFrame: ~Copyable {
    /// The buffer's pieces, and those that were made by cutting them.
    var pieces = IOVectorArray(capacity: 8)
    /// Where the device-writable pieces stand: the response, then data-in.
    private var writablePieces = 0..<0
    private(set) var bufferID: UInt16 = 0
    /// Where to put the buffer; nil where another thread does.
    var queue: BorrowedReference<ServedQueue>?
    /// The size of the response when the request was taken.
    var senseByteCount = 0

    /// The device-writable pieces, from the response on.
    @inline(__always)
    var response: IOVectorSlice { pieces.slice(writablePieces) }

    /// Bytes of the response.
    @inline(__always)
    var responseByteCount: Int { ResponseHeader.byteCount &+ senseByteCount }

    /// Takes the next buffer of a queue, and has the processor fetch its beginning; nil when there is
    /// none.
    @inline(__always)
    mutating func take(from served: ServedQueue) throws(VirtqueueError) -> Buffer? {
        pieces.removeAll()
        guard let buffer = try served.queue.take(&pieces) else { return nil }
        pieces.slice(buffer.readablePieces).prefetch(toWrite: false)
        pieces.slice(buffer.writablePieces).prefetch(toWrite: true)
        return buffer
    }

    /// What a buffer holds.
    enum Content {
        case request(RequestHeader)
        /// Not one that can be executed, but it can be answered: header cut off, or data both ways.
        case illegal
        /// A part lies in memory that the front-end does not share.
        case cut
        /// There is no room for the response.
        case unanswerable
    }

    /// Reads a buffer whose pieces were taken.
    @inline(__always)
    mutating func open(
        _ buffer: Buffer, _ layout: SCSIDevice.RequestLayout, from served: ServedQueue
    ) -> Content {
        queue = BorrowedReference(served)
        bufferID = buffer.id
        writablePieces = buffer.writablePieces
        senseByteCount = layout.senseByteCount
        guard buffer.writableLength >= UInt64(layout.responseByteCount) else {
            return .unanswerable
        }
        if buffer.isCut { return .cut }
        let outByteCount = Int(buffer.readableLength) &- layout.headerByteCount
        let inByteCount = Int(buffer.writableLength) &- layout.responseByteCount
        guard outByteCount >= 0, outByteCount == 0 || inByteCount == 0,
            let header = RequestHeader(
                pieces.slice(buffer.readablePieces), cdbByteCount: layout.cdbByteCount)
        else { return .illegal }
        return .request(header)
    }

    /// Names the header, and the data after it and after the response, in a command's request.
    ///
    /// The list of pieces is not changed any more then.
    @inline(__always)
    mutating func fill(
        _ request: inout CommandRequest, _ header: RequestHeader, _ buffer: Buffer,
        _ layout: SCSIDevice.RequestLayout
    ) {
        let outByteCount = Int(buffer.readableLength) &- layout.headerByteCount
        let inByteCount = Int(buffer.writableLength) &- layout.responseByteCount
        request.attribute = header.attribute
        request.cdb = header.cdb
        request.cdbByteCount = layout.cdbByteCount
        request.dataOutByteCount = outByteCount
        request.dataInByteCount = inByteCount
        request.dataOut = nil
        request.dataIn = nil
        if outByteCount > 0 {
            let range = pieces.split(buffer.readablePieces, after: layout.headerByteCount)
            request.dataOut = pieces.slice(range)
        } else if inByteCount > 0 {
            let range = pieces.split(buffer.writablePieces, after: layout.responseByteCount)
            request.dataIn = pieces.slice(range)
        }
    }

    /// Writes a response without sense data.
    ///
    /// - Returns: how many bytes it has.
    func store(_ response: Response, residual: Int) -> Int {
        let pieces = self.response
        pieces.storeZeroes(byteCount: responseByteCount)
        pieces.store(
            ResponseHeader(
                senseLength: 0, residual: residual, status: .good, response: response))
        return responseByteCount
    }
}

/// A request between being taken and being begun.
struct TakenRequest: ~Copyable {
    /// Its place.
    var index = 0
    var buffer: Buffer?
}
