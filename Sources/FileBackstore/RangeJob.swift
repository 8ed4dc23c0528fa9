// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import CLinux
import Glibc
import LinuxIO

/// Freeing or clearing a range of a file or a block device, on a worker thread.
///
/// Each kernel call gets a bounded part, so that one big range does not hold up the medium's
/// other work for its whole length.
struct RangeJob: Sendable {
    /// Bytes that one call frees or clears.
    private static let partByteCount: UInt64 = 1 << 30
    /// Bytes of zeroes that one call writes where nothing better works.
    private static let zeroesByteCount = 64 << 10

    let calls: any BlockingCalls
    let descriptor: Int32
    let isBlockDevice: Bool
    /// Whether freed blocks have to read as zeroes.
    let readsZeroes: Bool
    /// Multiple at which zeroes are written, in memory and on the medium.
    let alignment: Int
    let operation: BlockRequest.Operation
    let range: Range<UInt64>

    /// - Returns: 0 (of a search, what `BlockingCalls.locate` returns), or a negative errno.
    func run() -> Int {
        switch operation {
        case .discard: discard()
        case .writeZeroes(let mayFree): writeZeroes(mayFree: mayFree)
        case .locate: calls.locate(descriptor, range)
        case .read, .write, .flush: -Int(EINVAL)
        }
    }

    /// A hole frees and reads as zeroes; of a device that cannot promise zeroes, the blocks are
    /// freed without the promise.
    ///
    /// A file takes unaligned edges and clears them.
    private func discard() -> Int {
        if isBlockDevice && !readsZeroes {
            return inParts { calls.discard(descriptor, $0) }
        }
        let result = inParts { calls.punchHole(descriptor, $0) }
        guard Self.isUnsupported(result), isBlockDevice else { return result }
        return writeZeroes(mayFree: false)
    }

    private func writeZeroes(mayFree: Bool) -> Int {
        if mayFree {
            let result = inParts { calls.punchHole(descriptor, $0) }
            if !Self.isUnsupported(result) { return result }
        }
        let result = inParts { calls.zeroRange(descriptor, $0) }
        if !Self.isUnsupported(result) { return result }
        return copyZeroes()
    }

    private static func isUnsupported(_ result: Int) -> Bool {
        result == -Int(EOPNOTSUPP) || result == -Int(ENOSYS) || result == -Int(ENOTTY)
    }

    private func inParts(_ call: (Range<UInt64>) -> Int) -> Int {
        var start = range.lowerBound
        while start < range.upperBound {
            let end = min(range.upperBound, start + Self.partByteCount)
            let result = call(start..<end)
            if result < 0 { return result }
            start = end
        }
        return 0
    }

    /// Writes zeroes as any data.
    private func copyZeroes() -> Int {
        unsafe withUnsafeTemporaryAllocation(
            byteCount: Self.zeroesByteCount, alignment: max(alignment, 4096)
        ) { zeroes in
            guard let start = zeroes.baseAddress else { return -Int(ENOMEM) }
            // SAFETY: the allocation has zeroesByteCount bytes, the most that a piece names.
            unsafe memset(start, 0, zeroes.count)
            var offset = range.lowerBound
            while offset < range.upperBound {
                let left = Int(min(range.upperBound - offset, UInt64(zeroes.count)))
                var piece = unsafe iovec(iov_base: start, iov_len: left)
                let result = unsafe calls.write(
                    descriptor, from: &piece, count: 1, at: offset, isDurable: false)
                if result < 0 { return result }
                if result == 0 { return -Int(ENOSPC) }
                offset += UInt64(result)
            }
            return 0
        }
    }
}
