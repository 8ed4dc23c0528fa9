// SPDX-License-Identifier: Apache-2.0

import FileBackstore
import Glibc
import Synchronization

/// The real blocking calls with faults put in where a test says.
package final class ScriptedBlockingCalls: BlockingCalls {
    /// The calls, as a script names them.
    package enum Call: Hashable, Sendable {
        case read
        case write
        case durableWrite
        case synchronize
        case punchHole
        case zeroRange
        case discard
        case locate
    }

    /// What a call does instead of its work.
    package enum Fault: Sendable {
        /// Fails with this errno.
        case fail(Int32)
        /// Fails with this errno now and ever after.
        case failAlways(Int32)
        /// Says that at most this many bytes were moved.
        case cutTo(Int)
        /// Hangs until `release`, and does its work then.
        case hang
    }

    private struct State {
        var faults: [Call: [Int: Fault]] = [:]
        var counts: [Call: Int] = [:]
        var broken: [Call: Int32] = [:]
        var isReleased = false
    }

    private let state = Mutex(State())
    private let real = SystemBlockingCalls()

    package init() {}

    /// Puts a fault into the `number`th call of a kind, counted from 0.
    package func script(_ call: Call, number: Int = 0, _ fault: Fault) {
        state.withLock { $0.faults[call, default: [:]][number] = fault }
    }

    /// Lets calls go on that hang.
    package func release() {
        state.withLock { $0.isReleased = true }
    }

    /// How often a call was made.
    package func count(_ call: Call) -> Int {
        state.withLock { $0.counts[call, default: 0] }
    }

    private func perform(_ call: Call, _ body: () -> Int) -> Int {
        let fault = state.withLock { state in
            let number = state.counts[call, default: 0]
            state.counts[call] = number + 1
            let fault = state.faults[call]?[number]
            if case .failAlways(let code) = fault { state.broken[call] = code }
            return state.broken[call].map { .fail($0) } ?? fault
        }
        switch fault {
        case .fail(let code), .failAlways(let code): return -Int(code)
        case .cutTo(let limit): return min(body(), limit)
        case .hang:
            while !state.withLock({ $0.isReleased }) { sched_yield() }
            return body()
        case nil: return body()
        }
    }

    package func read(
        _ descriptor: Int32, into pieces: UnsafePointer<iovec>, count: Int, at offset: UInt64
    ) -> Int {
        perform(.read) { unsafe real.read(descriptor, into: pieces, count: count, at: offset) }
    }

    package func write(
        _ descriptor: Int32, from pieces: UnsafePointer<iovec>, count: Int, at offset: UInt64,
        isDurable: Bool
    ) -> Int {
        perform(isDurable ? .durableWrite : .write) {
            unsafe real.write(
                descriptor, from: pieces, count: count, at: offset, isDurable: isDurable)
        }
    }

    package func synchronize(_ descriptor: Int32) -> Int {
        perform(.synchronize) { real.synchronize(descriptor) }
    }

    package func punchHole(_ descriptor: Int32, _ range: Range<UInt64>) -> Int {
        perform(.punchHole) { real.punchHole(descriptor, range) }
    }

    package func zeroRange(_ descriptor: Int32, _ range: Range<UInt64>) -> Int {
        perform(.zeroRange) { real.zeroRange(descriptor, range) }
    }

    package func discard(_ descriptor: Int32, _ range: Range<UInt64>) -> Int {
        perform(.discard) { real.discard(descriptor, range) }
    }

    package func locate(_ descriptor: Int32, _ range: Range<UInt64>) -> Int {
        perform(.locate) { real.locate(descriptor, range) }
    }
}
