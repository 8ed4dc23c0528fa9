// SPDX-License-Identifier: Apache-2.0

package import CLibaio
import FileBackstore

/// The real kernel's AIO with faults put in where a test says.
///
/// Calls and events are counted from 0.
@safe package final class ScriptedAIOKernel: AIOKernel {
    /// What a call of io_submit does instead of taking everything.
    package enum Submission {
        /// Refuses with this errno.
        case refuse(Int32)
        /// Takes at most this many.
        case takeAtMost(Int)
    }

    /// What an event says instead of what the kernel said.
    package enum Event {
        /// The negative of this errno.
        case fail(Int32)
        /// That at most this many bytes were moved.
        case cutTo(Int)
    }

    private let real = LibaioKernel()
    /// What io_setup says; 0 for what the kernel says.
    package var setUpErrnos: [Int32] = []
    package var submissions: [Int: Submission] = [:]
    package var events: [Int: Event] = [:]
    /// How io_setup, io_submit and the harvest were called so far.
    package private(set) var setUpCounts: [Int] = []
    package private(set) var submitCounts: [Int] = []
    package private(set) var eventCount = 0
    /// aio_rw_flags of every request that was handed over.
    package private(set) var flags: [UInt32] = []
    package private(set) var opcodes: [Int16] = []
    package private(set) var descriptors: [Int32] = []
    /// Files whose requests are taken and never end, until `letGo`.
    package var hungDescriptors: Set<Int32> = []
    private var hungRequests: [UnsafeMutablePointer<iocb>] = unsafe []
    /// Addresses of the memory or piece list that every request names.
    package private(set) var addresses: [Int] = []

    private let copies = UnsafeMutablePointer<io_event>.allocate(capacity: 1024)

    package init() {}

    deinit {
        unsafe copies.deallocate()
    }

    package func setUp(requestCount: Int) -> Int {
        setUpCounts.append(requestCount)
        if !setUpErrnos.isEmpty { return -Int(setUpErrnos.removeFirst()) }
        return real.setUp(requestCount: requestCount)
    }

    package func submit(
        _ requests: UnsafeMutablePointer<UnsafeMutablePointer<iocb>?>, count: Int
    ) -> Int {
        let script = submissions[submitCounts.count]
        submitCounts.append(count)
        var offered = count
        switch script {
        case .refuse(let code): return -Int(code)
        case .takeAtMost(let limit): offered = min(limit, count)
        case nil: break
        }
        for index in 0..<offered {
            // SAFETY: the caller hands over `count` control blocks.
            guard let block = unsafe requests[index] else { continue }
            unsafe flags.append(UInt32(block.pointee.aio_rw_flags))
            unsafe opcodes.append(block.pointee.aio_lio_opcode)
            unsafe descriptors.append(Int32(block.pointee.aio_fildes))
            unsafe addresses.append(Int(bitPattern: block.pointee.u.c.buf))
        }
        if hungDescriptors.isEmpty { return unsafe real.submit(requests, count: offered) }
        return unsafe submitAround(requests, count: offered)
    }

    /// Hands over what is not for a file that hangs, and keeps the rest.
    private func submitAround(
        _ requests: UnsafeMutablePointer<UnsafeMutablePointer<iocb>?>, count: Int
    ) -> Int {
        for index in 0..<count {
            // SAFETY: the caller hands over `count` control blocks.
            if let block = unsafe requests[index],
                unsafe hungDescriptors.contains(Int32(block.pointee.aio_fildes))
            {
                unsafe hungRequests.append(block)
                continue
            }
            let result = unsafe real.submit(requests + index, count: 1)
            if result != 1 { return index > 0 ? index : result }
        }
        return count
    }

    /// How many requests hang.
    package var hungCount: Int { unsafe hungRequests.count }

    /// Lets the requests that hang go on.
    package func letGo() {
        hungDescriptors = []
        var blocks = unsafe hungRequests.map { unsafe Optional($0) }
        unsafe hungRequests = []
        let count = unsafe blocks.count
        unsafe blocks.withUnsafeMutableBufferPointer { blocks in
            guard let start = blocks.baseAddress else { return }
            let taken = unsafe real.submit(start, count: count)
            precondition(taken == count, "the kernel takes what it has room for")
        }
    }

    package func completions() -> UnsafeBufferPointer<io_event> {
        let ended = unsafe real.completions()
        let count = min(ended.count, 1024)
        for index in 0..<count {
            // SAFETY: the copies have room for 1024 events.
            var event = unsafe ended[index]
            switch events[eventCount + index] {
            case .fail(let code): unsafe event.res = UInt(bitPattern: -Int(code))
            case .cutTo(let limit):
                unsafe event.res = UInt(bitPattern: min(Int(bitPattern: event.res), limit))
            case nil: break
            }
            unsafe copies[index] = event
        }
        return unsafe UnsafeBufferPointer(start: copies, count: count)
    }

    package var completionsAreFree: Bool { real.completionsAreFree }

    package func consume(_ count: Int) {
        eventCount += count
        real.consume(count)
    }
}
