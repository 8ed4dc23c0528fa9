// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import SystemPackage

/// Aligned buffers for the requests that the kernel would refuse as they are.
///
/// A fixed number of them in one mapping, whose pages cost nothing until they are used. A request
/// that is longer than a buffer goes through it in steps.
@safe struct BouncePool: ~Copyable {
    /// Bytes of a buffer, a multiple of every alignment that a medium asks for.
    static let bufferByteCount = 256 << 10

    private let base: UnsafeMutableRawPointer
    private let count: Int
    private var free: [Int]

    /// Reserves `count` buffers.
    init(count: Int) throws(Errno) {
        // SAFETY: a fresh private mapping wherever the kernel likes.
        let address = try systemCall {
            unsafe Int(
                bitPattern: mmap(
                    nil, count * Self.bufferByteCount, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
        }
        guard let base = unsafe UnsafeMutableRawPointer(bitPattern: address) else {
            throw .noMemory
        }
        unsafe self.base = base
        self.count = count
        free = Array((0..<count).reversed())
    }

    deinit {
        // SAFETY: the mapping is ours, and no request is under way any more.
        _ = unsafe munmap(base, count * Self.bufferByteCount)
    }

    /// Buffers that are not in use.
    var freeCount: Int { free.count }

    /// Takes a buffer; nil when all are in use.
    mutating func take() -> Int? { free.popLast() }

    /// Gives a buffer back.
    mutating func putBack(_ index: Int) {
        precondition(free.count < count, "a bounce buffer is given back once")
        free.append(index)
    }

    /// The first byte of a buffer that was taken.
    func address(of index: Int) -> UnsafeMutableRawPointer {
        precondition(index >= 0 && index < count, "a bounce buffer is one of the pool's")
        return unsafe base + index * Self.bufferByteCount
    }
}
