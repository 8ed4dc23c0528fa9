// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import Virtio

/// Bytes that a fuzzer made up, one after another; zeroes behind the end.
struct FuzzBytes {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position >= bytes.count }

    mutating func next() -> UInt8 {
        defer { position += 1 }
        return position < bytes.count ? bytes[position] : 0
    }

    mutating func next16() -> UInt16 { UInt16(next()) | UInt16(next()) << 8 }

    mutating func below(_ bound: Int) -> Int { Int(next()) % bound }
}

/// Runs a device on a ring in which a driver writes whatever bytes it is given, in between, and
/// looks whether the device keeps its promises all the same.
///
/// The bytes are a program: what the ring is, then what the driver and the device do.
public final class RingFuzzer {
    /// Where the regions lie: two that adjoin, one far away that ends with the address space.
    private static let regions: [TestMemory.Region] = [
        .init(at: 0x1_0000, byteCount: 0x1_0000, fileOffset: 528),
        .init(at: 0x2_0000, byteCount: 0x3000, fileOffset: 1040),
        .init(at: 0xFFFF_FFFF_FFFF_E000, byteCount: 0x1FFF, fileOffset: 64),
    ]
    /// The ring, tables and event fields all lie in these first bytes.
    private static let hotByteCount = 0x800
    private static let descriptors: UInt64 = 0x1_0000
    private static let driverArea: UInt64 = 0x1_0400
    private static let deviceArea: UInt64 = 0x1_0500

    let memory: TestMemory
    private let deviceMemory: GuestMemory
    private var regionBases: [Range<UInt>] = []
    private var pieces = IOVectorArray(capacity: 4)
    private var taken: [Buffer] = []
    private var freshTakes = 0
    private var failure: String?

    /// Buffers that the device took in all programs.
    public private(set) var bufferCount = 0
    /// The faults that the device found in all programs, by their case.
    public private(set) var faults: [String: Int] = [:]

    public init() throws {
        memory = try TestMemory(Self.regions)
        deviceMemory = try memory.deviceMemory()
        try findRegions()
    }

    /// Runs one program.
    ///
    /// - Returns: which promise was broken; nil for none.
    public func run(_ program: [UInt8]) -> String? {
        var input = FuzzBytes(program)
        failure = nil
        memory.fill(0, at: Self.descriptors, count: Self.hotByteCount)
        let configuration = makeConfiguration(&input)
        guard let queue = try? Virtqueue(configuration, memory: deviceMemory, notifier: nil) else {
            return nil
        }
        var run = FuzzRun(queue: queue, configuration: configuration)
        forgetTaken()
        while !input.isAtEnd && failure == nil && run.queue.breakage == nil { step(&run, &input) }
        // What was taken from a queue that is broken by now is given back as ever.
        while !taken.isEmpty && failure == nil { put(run, &input) }
        run.queue.flush()
        if failure == nil && run.queue.outstandingCount != 0 { failure = "buffers are missing" }
        if !memory.canariesAreIntact { failure = "a byte outside every region was written" }
        return failure
    }

    /// What one program has to do with.
    private struct FuzzRun {
        var queue: Virtqueue
        var configuration: VirtqueueConfiguration
        /// Descriptors or entries that the driver made available.
        var position = 0

        var isPacked: Bool { configuration.features.contains(.ringPacked) }
        var size: Int { configuration.size }
    }

    private func makeConfiguration(_ input: inout FuzzBytes) -> VirtqueueConfiguration {
        let choice = input.next()
        var features: UInt64 = 1 << 32
        if choice & 1 != 0 { features |= 1 << 34 }
        if choice & 2 == 0 { features |= 1 << 28 }
        if choice & 4 != 0 { features |= 1 << 29 }
        let isPacked = choice & 1 != 0
        if choice & 8 != 0 { writeGoodDescriptors(isPacked: isPacked) }
        let size = isPacked ? 1 + input.below(20) : 1 << input.below(5)
        let start = UInt32(input.next16())
        if !isPacked {
            // A used index that fits, so that entries land where they belong.
            memory.store(UInt16(truncatingIfNeeded: start), at: Self.deviceArea + 2)
            memory.store(UInt16(truncatingIfNeeded: start), at: Self.driverArea + 2)
        }
        return VirtqueueConfiguration(
            size: size, descriptorArea: GuestAddress(Self.descriptors),
            driverArea: GuestAddress(Self.driverArea), deviceArea: GuestAddress(Self.deviceArea),
            features: VirtioFeatures(rawValue: features),
            base: isPacked ? start % UInt32(size) | start & 0x8000 : start)
    }

    /// Fills ring and tables with descriptors that are all right, chained now and then.
    private func writeGoodDescriptors(isPacked: Bool) {
        for index in 0..<UInt64(128) {
            let place = Self.descriptors + 16 * index
            if place >= Self.driverArea && place < 0x1_0600 { continue }
            let flags = UInt16(index % 7 == 3 ? 4 : index % 3 == 1 ? 1 : index % 2 == 0 ? 2 : 0)
            let isTable = flags == 4 && place < Self.driverArea
            memory.store(isTable ? 0x1_0600 : 0x1_1000 + 64 * index, at: place)
            memory.store(UInt32(isTable ? 48 : 64), at: place + 8)
            let link = UInt16(truncatingIfNeeded: index % 32 + 1)
            let own = isTable ? 4 : flags & 3
            memory.store(isPacked ? link - 1 : own, at: place + 12)
            memory.store(isPacked ? own : link, at: place + 14)
        }
    }

    private func step(_ run: inout FuzzRun, _ input: inout FuzzBytes) {
        switch input.below(12) {
        case 0: scribble(&input)
        case 1, 2: writeDescriptor(&run, &input)
        case 3, 4: publish(&run, &input)
        case 5, 6, 7: take(run, count: 1 + input.below(16))
        case 8: put(run, &input)
        case 9: handBack(run, &input)
        case 10:
            run.queue.flush()
            run.queue.signal()
        default: control(&run, &input)
        }
    }

    // MARK: The driver

    private func scribble(_ input: inout FuzzBytes) {
        let place = Int(input.next16()) % (Self.hotByteCount - 16)
        let bytes = (0..<1 + input.below(16)).map { _ in input.next() }
        memory.write(bytes, at: Self.descriptors + UInt64(place))
        freshTakes = 0
    }

    /// Writes a descriptor that makes some sense, into the ring or a table.
    private func writeDescriptor(_ run: inout FuzzRun, _ input: inout FuzzBytes) {
        let addresses: [UInt64] = [
            0x1_1000, 0x1_FFF0, 0x2_0000, 0x2_2FFF, 0x1_0600, 0x1_0601, 0xFFFF_FFFF_FFFF_E000,
            0xFFFF_FFFF_FFFF_FFFE, 0, 0x1_0000,
        ]
        let lengths: [UInt32] = [0, 1, 16, 32, 48, 17, 4096, 0x1_3000, 0xFFFF_FFFF, 0x8000_0000]
        let place = Self.descriptors + 16 * UInt64(input.below(128))
        memory.store(addresses[input.below(addresses.count)], at: place)
        memory.store(lengths[input.below(lengths.count)], at: place + 8)
        let flags = UInt16(input.next() & 7)
        let link = UInt16(input.below(run.size + 1))
        memory.store(run.isPacked ? link : flags, at: place + 12)
        memory.store(run.isPacked ? flags : link, at: place + 14)
        freshTakes = 0
    }

    private func publish(_ run: inout FuzzRun, _ input: inout FuzzBytes) {
        for _ in 0...input.below(4) {
            if run.isPacked {
                publishPacked(&run, &input)
            } else {
                publishSplit(run, &input)
            }
        }
        freshTakes = 0
    }

    /// Mostly the next descriptor as long as the ring has room; sometimes any, room or not.
    private func publishSplit(_ run: FuzzRun, _ input: inout FuzzBytes) {
        let index = memory.load(UInt16.self, at: Self.driverArea + 2)
        let used = memory.load(UInt16.self, at: Self.deviceArea + 2)
        let choice = input.next()
        if Int(index &- used) >= run.size && choice % 32 != 0 { return }
        let place = Self.driverArea + 4 + 2 * UInt64(Int(index) % run.size)
        let head =
            choice % 16 == 1
            ? UInt16(input.next()) % UInt16(run.size + 1) : index % UInt16(run.size)
        memory.store(head, at: place)
        memory.store(index &+ 1, at: Self.driverArea + 2)
    }

    /// Mostly a place that was used; sometimes any.
    ///
    /// Mostly an id of its own.
    private func publishPacked(_ run: inout FuzzRun, _ input: inout FuzzBytes) {
        let start = Int(run.configuration.base & 0x7FFF)
        let startWrap = run.configuration.base & 0x8000 != 0
        let index = (start + run.position) % run.size
        let wrap = startWrap == ((start + run.position) / run.size % 2 == 0)
        let place = Self.descriptors + 16 * UInt64(index) + 14
        let choice = input.next()
        let now = memory.load(UInt16.self, at: place)
        let isUsed = (now & 0x80 != 0) == (now & 0x8000 != 0)
        if run.position >= run.size && !isUsed && choice % 32 != 0 { return }
        if choice % 8 != 1 { memory.store(UInt16(index), at: place - 2) }
        let flags = now & 7
        memory.store(flags | (wrap ? 0x0080 : 0x8000), at: place)
        run.position += 1
    }

    // MARK: The device

    private func take(_ run: FuzzRun, count: Int) {
        for _ in 0..<count {
            let pieceCount = pieces.count
            do {
                guard let buffer = try run.queue.take(&pieces) else { return }
                taken.append(buffer)
                freshTakes += 1
                bufferCount += 1
                check(buffer, run)
            } catch {
                if pieces.count != pieceCount { failure = "an error left pieces behind" }
                faults[Self.name(of: error), default: 0] += 1
                return checkBroken(run, error)
            }
        }
    }

    private func check(_ buffer: Buffer, _ run: FuzzRun) {
        let readable = checkPieces(buffer.readablePieces)
        let writable = checkPieces(buffer.writablePieces)
        if readable != buffer.readableLength || writable != buffer.writableLength {
            failure = "lengths are not those of the pieces"
        }
        if readable + writable > 1 << 32 { failure = "a buffer is longer than 2^32 bytes" }
        if buffer.descriptorCount < 1 || buffer.descriptorCount > run.size {
            failure = "a buffer has \(buffer.descriptorCount) descriptors"
        }
        if freshTakes > run.size { failure = "more buffers were taken than the ring holds" }
        if run.queue.outstandingCount != taken.count { failure = "the outstanding count is wrong" }
    }

    /// Touches both ends of what may be written, and returns how long the pieces are.
    private func checkPieces(_ range: Range<Int>) -> UInt64 {
        let slice = pieces.slice(range)
        var sum: UInt64 = 0
        for index in 0..<slice.count {
            // SAFETY: the index is below the number of pieces; only the address is looked at.
            let (start, length) = unsafe (
                UInt(bitPattern: slice.base[index].iov_base), slice.base[index].iov_len
            )
            sum += UInt64(length)
            let isInside = regionBases.contains {
                start >= $0.lowerBound && start <= $0.upperBound
                    && UInt(length) <= $0.upperBound - start
            }
            if length > 0 && !isInside { failure = "a piece lies outside every region" }
        }
        return sum
    }

    private static func name(of error: VirtqueueError) -> String {
        Mirror(reflecting: error).children.first?.label ?? "\(error)"
    }

    private func checkBroken(_ run: FuzzRun, _ error: VirtqueueError) {
        if run.queue.breakage != error { failure = "the breakage is another one" }
        if run.queue.requestNotifications() { failure = "a broken queue asks to be looked at" }
        do {
            _ = try run.queue.take(&pieces)
            failure = "a broken queue goes on"
        } catch let second {
            if second != error { failure = "a broken queue breaks again" }
        }
    }

    private func put(_ run: FuzzRun, _ input: inout FuzzBytes) {
        for _ in 0...input.below(8) where !taken.isEmpty {
            let buffer = taken.remove(at: input.below(taken.count))
            let most = UInt32(truncatingIfNeeded: min(buffer.writableLength, 0xFFFF_FFFF))
            // The device writes for real, somewhere in the middle too.
            let slice = pieces.slice(buffer.writablePieces)
            if failure == nil { slice.storeZeroes(at: 0, byteCount: min(Int(most), 64)) }
            run.queue.put(
                UsedBuffer(id: buffer.id, writtenLength: min(most, UInt32(input.next16()))))
            lastPut = true
        }
        if taken.isEmpty { forgetTaken() }
    }

    /// Whether something was put since the list of taken buffers was empty: then it is not known
    /// which may be handed back.
    private var lastPut = false

    private func handBack(_ run: FuzzRun, _ input: inout FuzzBytes) {
        guard !lastPut, !taken.isEmpty else { return }
        let count = 1 + input.below(taken.count)
        run.queue.handBack(count)
        pieces.truncate(to: Int(taken[taken.count - count].firstPiece))
        taken.removeLast(count)
        freshTakes = max(0, freshTakes - count)
    }

    private func forgetTaken() {
        taken.removeAll()
        pieces.removeAll()
        lastPut = false
        freshTakes = 0
    }

    private func control(_ run: inout FuzzRun, _ input: inout FuzzBytes) {
        switch input.below(4) {
        case 0: run.queue.suppressNotifications()
        case 1:
            let isMore = run.queue.requestNotifications()
            if run.queue.breakage != nil && isMore { failure = "a broken queue wants more" }
        case 2:
            let base = run.queue.base
            if run.isPacked && Int(base & 0x7FFF) >= run.size { failure = "the base is outside" }
        default: restart(&run)
        }
    }

    private func restart(_ run: inout FuzzRun) {
        var configuration = run.configuration
        configuration.base = run.queue.base
        do {
            run.queue = try Virtqueue(configuration, memory: deviceMemory, notifier: nil)
        } catch {
            failure = "a successor cannot start at the base of its predecessor"
        }
        forgetTaken()
    }

    // MARK: Where the device sees the regions

    /// Finds out where in our address space the device has mapped each region.
    private func findRegions() throws {
        let driver = SplitDriver(in: memory, RingOptions(size: 4))
        let queue = try Virtqueue(driver.configuration, memory: deviceMemory, notifier: nil)
        for region in Self.regions {
            let whole = Segment(at: region.guestAddress, byteCount: Int(region.byteCount))
            driver.offer(Chain(readable: [whole]))
            guard try queue.take(&pieces) != nil else { continue }
            // SAFETY: there is one piece; only its address is looked at.
            let start = unsafe UInt(
                bitPattern: pieces.slice(pieces.count - 1..<pieces.count).base[0].iov_base)
            regionBases.append(start..<start + UInt(region.byteCount))
        }
        pieces.removeAll()
    }
}
