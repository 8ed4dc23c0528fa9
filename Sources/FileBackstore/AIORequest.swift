// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import CLibaio
import CLinux
import Glibc
import LinuxIO

/// A request of a store on its way: what was asked, how far it is, and what the kernel holds.
///
/// A transfer is done in steps, nearly always one. There are more when the kernel moved less than
/// it was asked to, when the pieces are more than it takes at once, or when the bytes go through a
/// bounce buffer that is smaller than the request.
///
/// SAFETY: the pieces and the memory behind them stay valid until the owner is called, by the
/// contract of `BlockStore.submit`; what the request itself makes, it frees at its end.
@safe struct AIORequest {
    /// Who carries the next step out.
    enum Lane { case kernel, workers }

    /// What one call of the kernel is asked to move.
    @safe struct Step {
        var pieces: UnsafeMutablePointer<iovec>?
        var count = 0
        var byteCount = 0
    }

    /// Pieces that the kernel takes at once (UIO_MAXIOV).
    static let maximumPieceCount = 1024

    /// What the kernel was given; it lies here until the request has ended.
    var control = unsafe iocb()
    var store: StoreReference?
    var owner: OwnerReference?
    var token: UInt64 = 0
    var request = BlockRequest(.flush)
    var doneByteCount = 0
    var step = Step()
    var lane = Lane.kernel
    /// Whether the kernel was asked to refuse rather than to wait (RWF_NOWAIT).
    var mayNotWait = false
    /// The bounce buffer in use, and the piece that describes it to the kernel.
    var bounceBuffer: Int?
    var bouncePiece = unsafe iovec()
    var mustBounce = false
    /// What is left of the pieces after a partial step; ours, freed at the end.
    var remainder: UnsafeMutablePointer<iovec>?
    var attempts = 0
    /// The end that was found before the kernel saw the request.
    var outcome = BlockOutcome.done
    /// The next request of the list that this one waits in.
    var next: Int?

    /// Bytes that are still to move.
    var leftByteCount: Int { request.byteCount - doneByteCount }

    /// Where on the medium the next step begins.
    var stepOffset: UInt64 { request.offset + UInt64(doneByteCount) }

    /// Whether the request moves bytes between memory and the medium.
    var isTransfer: Bool {
        switch request.operation {
        case .read, .write: true
        case .flush, .discard, .writeZeroes, .locate: false
        }
    }

    var isRead: Bool { request.operation == .read }

    var isDurable: Bool { request.operation == .write(isDurable: true) }
}

// MARK: Steps

extension AIORequest {
    /// Takes the pieces as they are, as many as the kernel takes at once.
    ///
    /// - Parameter alignment: what the kernel asks for; nil when it asks for nothing.
    /// - Returns: false when a piece is not aligned.
    mutating func takePieces(alignment: DirectAlignment?) -> Bool {
        guard let pieces = request.pieces else {
            preconditionFailure("a transfer has pieces of memory")
        }
        let memoryMask = (alignment?.memory ?? 1) - 1
        let lengthMask = (alignment?.length ?? 1) - 1
        var byteCount = 0
        var misfit = 0
        let count = min(pieces.count, Self.maximumPieceCount)
        for index in 0..<count {
            // SAFETY: the index is below the number of pieces, which their list keeps valid.
            let piece = unsafe pieces.base[index]
            unsafe misfit |= Int(bitPattern: piece.iov_base) & memoryMask
            unsafe misfit |= Int(piece.iov_len) & lengthMask
            unsafe byteCount &+= Int(piece.iov_len)
        }
        precondition(
            byteCount == request.byteCount
                || (pieces.count > count && byteCount < request.byteCount),
            "the pieces of a request hold its bytes")
        unsafe step = Step(pieces: pieces.base, count: count, byteCount: byteCount)
        return misfit == 0
    }

    /// Lists the pieces that are left after `doneByteCount` bytes.
    @inline(never)
    mutating func takeRemainder() {
        guard let pieces = request.pieces else { return }
        let list: UnsafeMutablePointer<iovec>
        if let remainder = unsafe remainder {
            unsafe list = remainder
        } else {
            unsafe list = .allocate(capacity: min(pieces.count, Self.maximumPieceCount))
            unsafe remainder = list
        }
        var skip = doneByteCount
        var count = 0
        var byteCount = 0
        for index in 0..<pieces.count where count < Self.maximumPieceCount {
            // SAFETY: the index is below the number of pieces; the list has room for as many as
            // there are, or for the most that the kernel takes.
            let piece = unsafe pieces.base[index]
            let length = unsafe Int(piece.iov_len)
            if skip < length {
                unsafe list[count] = iovec(
                    iov_base: piece.iov_base?.advanced(by: skip), iov_len: length - skip)
                count += 1
                byteCount += length - skip
            }
            skip = max(0, skip - length)
        }
        precondition(
            byteCount > 0 && byteCount <= leftByteCount, "the pieces of a request hold its bytes")
        unsafe step = Step(pieces: list, count: count, byteCount: byteCount)
    }

    /// Takes a bounce buffer for the next step, and fills it when the request writes.
    mutating func takeBounce(_ buffer: UnsafeMutableRawPointer, piece: UnsafeMutablePointer<iovec>)
    {
        let byteCount = min(leftByteCount, BouncePool.bufferByteCount)
        unsafe bouncePiece = iovec(iov_base: buffer, iov_len: byteCount)
        unsafe step = Step(pieces: piece, count: 1, byteCount: byteCount)
        if isRead { return }
        // SAFETY: the buffer has at least `byteCount` bytes and nobody else uses it.
        var bytes = unsafe MutableRawSpan(_unsafeStart: buffer, byteCount: byteCount)
        request.pieces?.copyBytes(into: &bytes, from: doneByteCount)
    }

    /// Hands on what a read has left in the bounce buffer.
    func deliverBounced(byteCount: Int) {
        guard isRead, let buffer = unsafe bouncePiece.iov_base else { return }
        // SAFETY: the kernel has filled `byteCount` bytes of the buffer.
        let bytes = unsafe RawSpan(_unsafeStart: buffer, byteCount: byteCount)
        request.pieces?.store(bytes: bytes, at: doneByteCount)
    }

    /// Frees what the request owns.
    mutating func forget() {
        store = nil
        guard let remainder = unsafe remainder else { return }
        unsafe remainder.deallocate()
        unsafe self.remainder = nil
    }
}

// MARK: The kernel's view

extension AIORequest {
    /// Writes the control block for the next step.
    ///
    /// - Parameters:
    ///   - index: comes back with the event.
    ///   - descriptor: the file.
    ///   - eventDescriptor: the eventfd that the kernel signals.
    mutating func fillControl(index: Int, descriptor: Int32, eventDescriptor: Int32) {
        // SAFETY: every field is a number, or names memory that outlives the step; `u.c` covers the union
        // covers the union, in which a vector's fields lie where buf and nbytes do.
        unsafe control.data = UnsafeMutableRawPointer(bitPattern: index)
        unsafe control.key = 0
        unsafe control.aio_reqprio = 0
        unsafe control.aio_fildes = descriptor
        unsafe control.aio_rw_flags = isTransfer ? transferFlags : 0
        unsafe control.aio_lio_opcode = opcode
        if isTransfer {
            unsafe control.u.c.buf =
                step.count == 1
                ? step.pieces.map { unsafe $0.pointee.iov_base } ?? nil
                : UnsafeMutableRawPointer(step.pieces)
            unsafe control.u.c.nbytes = step.count == 1 ? UInt(step.byteCount) : UInt(step.count)
            unsafe control.u.c.offset = Int64(bitPattern: stepOffset)
        } else {
            unsafe control.u.c.buf = nil
            unsafe control.u.c.nbytes = 0
            unsafe control.u.c.offset = 0
        }
        unsafe control.u.c.flags = Self.resultDescriptorFlag
        unsafe control.u.c.resfd = UInt32(bitPattern: eventDescriptor)
    }

    /// IOCB_FLAG_RESFD.
    private static let resultDescriptorFlag: UInt32 = 1

    private var transferFlags: UInt32 {
        (isDurable ? cl_rwf_dsync : 0) | (mayNotWait ? cl_rwf_nowait : 0)
    }

    private var opcode: Int16 {
        if !isTransfer { return Int16(IO_CMD_FDSYNC.rawValue) }
        if step.count == 1 {
            return Int16((isRead ? IO_CMD_PREAD : IO_CMD_PWRITE).rawValue)
        }
        return Int16((isRead ? IO_CMD_PREADV : IO_CMD_PWRITEV).rawValue)
    }
}
