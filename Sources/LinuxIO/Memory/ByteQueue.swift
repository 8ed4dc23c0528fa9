// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
public import SystemPackage

/// Bytes that wait for a socket to take them, first in, first out.
///
/// Nothing is allocated while the queue has never held a byte, and nothing is kept once it has
/// been emptied.
///
/// SAFETY: the storage has `capacity` bytes, of which `count` from `start` on are the queue's.
@safe public struct ByteQueue: ~Copyable {
    private var storage: UnsafeMutableRawPointer?
    private var capacity = 0
    private var start = 0
    /// Bytes that wait.
    public private(set) var count = 0

    public init() { unsafe storage = nil }

    deinit {
        unsafe free(storage)
    }

    /// Whether no byte waits.
    @inline(__always)
    public var isEmpty: Bool { count == 0 }

    /// Copies bytes out of memory pieces, from `offset` on, to the end of the queue.
    ///
    /// - Returns: how many bytes were copied: all of them, or none when there is no memory.
    @discardableResult
    public mutating func append(_ pieces: IOVectorSlice, from offset: Int = 0) -> Int {
        let added = pieces.byteCount - offset
        guard added > 0, makeRoom(for: added), let storage = unsafe storage else { return 0 }
        // SAFETY: makeRoom has seen to it that `added` bytes fit behind those that wait.
        var target = unsafe MutableRawSpan(
            _unsafeStart: storage + start + count, byteCount: added)
        let copied = pieces.copyBytes(into: &target, from: offset)
        count += copied
        return copied
    }

    /// Copies bytes to the end of the queue; false, and nothing copied, when there is no memory.
    @discardableResult
    public mutating func append(_ bytes: Span<UInt8>) -> Bool {
        let added = bytes.count
        guard added > 0 else { return true }
        guard makeRoom(for: added), let storage = unsafe storage else { return false }
        unsafe bytes.withUnsafeBufferPointer { source in
            guard let from = source.baseAddress else { return }
            // SAFETY: makeRoom has seen to it that `added` bytes fit behind those that wait.
            unsafe memcpy(storage + start + count, from, added)
        }
        count += added
        return true
    }

    /// Forgets every byte and gives the memory back.
    public mutating func removeAll() {
        unsafe free(storage)
        unsafe storage = nil
        capacity = 0
        start = 0
        count = 0
    }

    /// Sends as much as the socket takes in one call.
    ///
    /// The corresponding C function is `send`.
    public mutating func send(
        to socket: borrowing OwnedDescriptor
    ) throws(Errno) -> IOResult {
        guard count > 0, let storage = unsafe storage else { return .wouldBlock }
        let number = socket.rawValue
        let (offset, length) = (start, count)
        // SAFETY: the bytes from start to start + count wait and are initialised.
        let result = try transfer {
            unsafe Glibc.send(number, storage + offset, length, Int32(MSG_NOSIGNAL))
        }
        if case .bytes(let sent) = result { removeFirst(sent) }
        return result
    }

    mutating func removeFirst(_ byteCount: Int) {
        start += byteCount
        count -= byteCount
        if count == 0 { removeAll() }
    }

    /// Lets `write` put up to `limit` bytes behind those that wait.
    ///
    /// - Returns: what `write` returned: how many bytes it wrote.
    /// - Throws: what `write` throws; `noMemory` when there is no room.
    @discardableResult
    mutating func appendWritten(
        _ limit: Int, _ write: (UnsafeMutableRawPointer) throws(Errno) -> Int
    ) throws(Errno) -> Int {
        guard makeRoom(for: limit), let storage = unsafe storage else { throw .noMemory }
        // SAFETY: makeRoom has seen to it that `limit` bytes fit behind those that wait.
        let written = try unsafe write(storage + start + count)
        count += written
        return written
    }

    /// Shows the first `byteCount` bytes, which wait; nil when there is no memory at all.
    func withFirst<Result, Failure>(
        _ byteCount: Int, _ body: (UnsafeRawPointer?) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        precondition(byteCount <= count, "no more bytes are shown than wait")
        guard let storage = unsafe storage else { return try body(nil) }
        return try unsafe body(UnsafeRawPointer(storage + start))
    }

    private mutating func makeRoom(for added: Int) -> Bool {
        if start + count + added <= capacity { return true }
        // Twice of what is needed, so that a full queue is not copied for every few bytes.
        var larger = max(4096, capacity)
        while larger < 2 * (count + added) { larger *= 2 }
        guard let target = unsafe malloc(larger) else { return false }
        if let storage = unsafe storage {
            // SAFETY: both hold at least `count` bytes.
            unsafe memcpy(target, storage + start, count)
            unsafe free(storage)
        }
        unsafe storage = target
        capacity = larger
        start = 0
        return true
    }
}
