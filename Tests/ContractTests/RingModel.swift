// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing
import Virtio

/// A ring, and beside it the plain arrays that say what must come out of it.
///
/// The driver numbers its buffers. A buffer is its number in what the device reads, and the inverse
/// of it in what the device writes. Each side does at random what it may do next.
final class RingModel {
    /// A number's memory, and the chains that may carry it.
    private struct Slot {
        let readable: SharedArea
        let writable: SharedArea
        let chains: [Chain]
    }

    private struct Taken {
        let number: UInt64
        let buffer: Buffer
    }

    private struct Put {
        let number: UInt64
        let length: UInt32
    }

    private let format: RingFormat
    private let memory: TestMemory
    private let driver: any RingDriver
    private let deviceMemory: GuestMemory
    private let notifier = SignalCounter()
    private var queue: Virtqueue
    private var pieces = IOVectorArray(capacity: 8)
    private var generator: SeededGenerator

    private var slots: [Slot] = []
    private var freeSlots: [Int] = []
    /// The number that the driver adds next, and the one that the device takes next.
    private var nextAdded: UInt64 = 0
    private var nextTaken: UInt64 = 0
    private var taken: [Taken] = []
    /// Puts since the oldest buffer that is still in `taken` was taken: those after it.
    private var lastPut: UInt64?
    private var unpublished: [Put] = []
    private var published: [Put] = []

    /// What the driver must be signalled for: a range of used positions, and the one it named.
    private var usedPosition = 0
    private var consideredPosition = 0
    private var reapedPosition = 0
    private var wish = Wish.position(0)
    private var isFirstSignal = true
    private var mustKick = false

    private enum Wish {
        case never
        case always
        case position(Int)
    }

    /// Buffers that the driver got back.
    private(set) var reapedCount = 0
    /// What went wrong; nothing else is done once there is something.
    private(set) var failure: String?

    init(_ format: RingFormat, _ options: RingOptions, seed: UInt64) throws {
        self.format = format
        memory = try TestMemory(byteCount: 8 << 20)
        driver = format.makeDriver(in: memory, options)
        deviceMemory = try memory.deviceMemory()
        queue = try Virtqueue(driver.configuration, memory: deviceMemory, notifier: notifier)
        generator = SeededGenerator(seed: seed)
        for index in 0..<options.size {
            slots.append(makeSlot(options))
            freeSlots.append(index)
        }
        wish = options.eventIndex && format == .split ? .position(0) : .always
    }

    private func fail(_ text: String) {
        if failure == nil { failure = "\(text) (seed \(generator.seed), buffer \(reapedCount))" }
    }

    // MARK: Shapes

    private func makeSlot(_ options: RingOptions) -> Slot {
        let readable = memory.allocate(byteCount: 48)
        let writable = memory.allocate(byteCount: 48)
        var chains: [Chain] = []
        for _ in 0..<6 {
            var placement = Chain.Placement.direct
            let room = min(options.size, 5)
            var pieceCount = 1 + generator.below(room)
            if options.indirect && generator.oneIn(2) {
                pieceCount = 1 + generator.below(8)
                placement = .indirect
                if format == .split && pieceCount > 2 && room > 2 && generator.oneIn(3) {
                    placement = .mixed(direct: 1 + generator.below(2))
                }
            }
            let writableCount = generator.below(pieceCount)
            chains.append(
                Chain(
                    readable: cut(at: readable, 48, into: pieceCount - writableCount),
                    writable: writableCount == 0 ? [] : cut(at: writable, 40, into: writableCount),
                    placement: placement))
        }
        return Slot(
            readable: memory.area(at: readable, byteCount: 48),
            writable: memory.area(at: writable, byteCount: 48), chains: chains)
    }

    /// Cuts a stretch into pieces at random places; some may be empty.
    private func cut(at address: UInt64, _ byteCount: Int, into count: Int) -> [Segment] {
        let places = ([0] + (1..<count).map { _ in generator.below(byteCount + 1) } + [byteCount])
            .sorted()
        return (0..<count).map {
            Segment(at: address + UInt64(places[$0]), byteCount: places[$0 + 1] - places[$0])
        }
    }

    // MARK: Turns

    /// Lets each side act until the driver has got `count` buffers back, or something is wrong.
    func run(untilReaped count: Int) throws {
        var turns = 0
        while reapedCount < count && failure == nil {
            try turn()
            turns += 1
            if turns > 40 * count + 1000 { fail("the ring does not get on") }
        }
    }

    private func turn() throws {
        switch generator.below(16) {
        case 0...2: offer()
        case 3...5: try take()
        case 6...7: putSome(one: true)
        case 8: putSome(one: false)
        case 9: handBack()
        case 10...11: publishUsed()
        case 12...14: try reap()
        default: try rare()
        }
    }

    private func rare() throws {
        switch generator.below(6) {
        case 0: checkCounts()
        case 1: requestNotifications()
        case 2:
            queue.suppressNotifications()
            mustKick = false
        case 3: changeWish()
        case 4: shuffle()
        default: try restart()
        }
    }

    // MARK: The driver

    private func offer() {
        var isAnyAdded = false
        for _ in 0...generator.below(8) {
            guard let slot = freeSlots.last else { break }
            let chain = slots[slot].chains[generator.below(6)]
            slots[slot].readable.store64(0, nextAdded)
            slots[slot].writable.fill(0xEE, at: 0, count: 48)
            guard driver.add(chain, tag: slot) != nil else { break }
            freeSlots.removeLast()
            nextAdded += 1
            isAnyAdded = true
        }
        guard isAnyAdded else { return }
        let kicks = driver.publish()
        if mustKick && !kicks { fail("no kick although it was requested") }
        mustKick = false
    }

    private func reap() throws {
        for _ in 0...generator.below(16) {
            guard let buffer = try driver.reap() else {
                if !published.isEmpty { fail("published buffers are not there") }
                return
            }
            guard let expected = published.first else { return fail("a buffer came from nowhere") }
            published.removeFirst()
            reapedPosition += format == .split ? 1 : buffer.chain.ringDescriptorCount
            check(buffer, expected)
        }
    }

    private func check(_ buffer: ReapedBuffer, _ expected: Put) {
        let number = slots[buffer.tag].readable.load64(0)
        guard number == expected.number, buffer.writtenLength == expected.length else {
            return fail("buffer \(number) of \(buffer.writtenLength) came, not \(expected)")
        }
        let area = slots[buffer.tag].writable
        let length = Int(expected.length)
        if length >= 8 && area.load64(0) != ~expected.number { fail("wrong bytes were written") }
        if !area.isFilled(with: 0xEE, at: max(length, 8), count: 48 - max(length, 8)) {
            fail("bytes were written behind the end")
        }
        freeSlots.append(buffer.tag)
        reapedCount += 1
    }

    private func changeWish() {
        let hasEvent = driver.options.eventIndex
        if generator.oneIn(3) {
            driver.suppressSignals()
            wish = hasEvent && format == .split ? .position(reapedPosition - 1) : .never
        } else {
            let count = 1 + generator.below(driver.size)
            driver.requestSignals(after: count)
            wish = hasEvent ? .position(reapedPosition + count - 1) : .always
        }
    }

    private func shuffle() {
        if driver.options.inOrder { return }
        (driver as? SplitDriver)?.shuffleFree(using: &generator)
        (driver as? PackedDriver)?.shuffleFree(using: &generator)
    }

    // MARK: The device

    private func take() throws {
        for _ in 0...generator.below(12) {
            guard let buffer = try queue.take(&pieces) else {
                if nextTaken != nextAdded { fail("published buffers were not taken") }
                return
            }
            let number = pieces.slice(buffer.readablePieces).load(UInt64.self)
            if number != nextTaken || nextTaken >= nextAdded { fail("a wrong buffer was taken") }
            if buffer.readableLength != 48 { fail("a wrong readable length") }
            taken.append(Taken(number: nextTaken, buffer: buffer))
            nextTaken += 1
        }
    }

    private func putSome(one: Bool) {
        var used: [UsedBuffer] = []
        for _ in 0..<1 + generator.below(one ? 2 : 6) where !taken.isEmpty {
            let index = driver.options.inOrder ? 0 : generator.below(taken.count)
            used.append(serve(taken.remove(at: index)))
        }
        if used.isEmpty { return }
        if one {
            for buffer in used { queue.put(buffer) }
        } else {
            queue.put(used.span)
        }
        if taken.isEmpty { pieces.removeAll() }
    }

    private func serve(_ item: Taken) -> UsedBuffer {
        let writable = item.buffer.writableLength
        var length: UInt32 = 0
        if writable >= 8 && !generator.oneIn(4) {
            pieces.slice(item.buffer.writablePieces).store(~item.number)
            length = UInt32(8 + generator.below(Int(writable) - 7))
            let zeroes = pieces.slice(item.buffer.writablePieces)
                .storeZeroes(at: 8, byteCount: Int(length) - 8)
            if zeroes != Int(length) - 8 { fail("the writable pieces are too short") }
        }
        lastPut = max(lastPut ?? 0, item.number)
        unpublished.append(Put(number: item.number, length: length))
        usedPosition += format == .split ? 1 : Int(item.buffer.descriptorCount)
        return UsedBuffer(id: item.buffer.id, writtenLength: length)
    }

    /// Hands back some of the last buffers, as far as none of them was put.
    private func handBack() {
        let limit = taken.reversed().prefix { $0.number > lastPut ?? 0 || lastPut == nil }.count
        guard limit > 0 else { return }
        let count = 1 + generator.below(limit)
        queue.handBack(count)
        pieces.truncate(to: Int(taken[taken.count - count].buffer.firstPiece))
        taken.removeLast(count)
        nextTaken -= UInt64(count)
    }

    private func publishUsed() {
        queue.flush()
        published += unpublished
        unpublished.removeAll(keepingCapacity: true)
        if generator.oneIn(4) { return }
        let before = notifier.count
        queue.signal()
        let isSignalled = notifier.count > before
        let moved = consideredPosition..<usedPosition
        consideredPosition = usedPosition
        // A signal too many harms nobody, after a start or a whole lap.
        if isFirstSignal || moved.count >= driver.size {
            if !isSignalled && isWanted(in: moved) { fail("a signal is missing") }
        } else if isSignalled != isWanted(in: moved) {
            fail("\(isSignalled ? "signalled" : "no signal") for \(moved), wished \(wish)")
        }
        if !moved.isEmpty { isFirstSignal = false }
    }

    private func isWanted(in moved: Range<Int>) -> Bool {
        switch wish {
        case .never: false
        case .always: !moved.isEmpty
        case .position(let position):
            moved.contains(firstSight(of: position, from: moved.lowerBound))
        }
    }

    /// Where a place that the driver named some time ago comes by again: after 2^16 buffers, or two
    /// laps.
    private func firstSight(of position: Int, from start: Int) -> Int {
        let period = format == .split ? 65536 : 2 * driver.size
        if position >= start { return position }
        return position + (start - position + period - 1) / period * period
    }

    private func requestNotifications() {
        let isMore = queue.requestNotifications()
        if isMore != (nextTaken != nextAdded) { fail("requestNotifications said \(isMore)") }
        mustKick = !isMore
    }

    private func checkCounts() {
        if queue.outstandingCount != taken.count { fail("the outstanding count is wrong") }
        if queue.breakage != nil { fail("the queue is broken") }
    }

    /// Ends everything that is under way, and goes on with a new queue at the base of the old one.
    private func restart() throws {
        guard taken.isEmpty && generator.oneIn(4) else { return }
        publishUsed()
        queue = try Virtqueue(
            configuration(base: queue.base), memory: deviceMemory, notifier: notifier)
        consideredPosition = usedPosition
        isFirstSignal = true
        mustKick = false
    }

    private func configuration(base: UInt32) -> VirtqueueConfiguration {
        var configuration = driver.configuration
        configuration.base = base
        return configuration
    }
}
