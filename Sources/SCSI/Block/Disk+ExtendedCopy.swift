// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// EXTENDED COPY (LID1) and RECEIVE COPY RESULTS (SPC-4): blocks of the disk are copied to other
/// blocks of it.
///
/// Copy targets are named by identification descriptors; others than the disk itself cannot be
/// reached. Segments are of the type block to block.
extension Disk {
    private static let targetLimit = 16
    private static let segmentLimit = 16
    private static let listByteLimit = 1024
    private static let segmentBlockLimit = 65535
    /// Bytes of the parameter list before the descriptors.
    private static let headerByteCount = 16

    /// Blocks to copy.
    struct CopySegment {
        let source: BlockExtent
        let destination: BlockExtent
    }

    /// The last copy that an initiator may ask about.
    struct CopyResult {
        let path: ObjectIdentifier
        let listIdentifier: UInt8
        let segmentCount: Int
        let byteCount: Int

        func isNamed(_ listIdentifier: UInt8, over path: ITLNexus) -> Bool {
            self.listIdentifier == listIdentifier && self.path == ObjectIdentifier(path)
        }
    }

    private enum Copy {
        case segments([CopySegment])
        case failure(Sense)
    }

    // MARK: EXTENDED COPY

    func extendedCopy(_ execution: Execution) {
        let length = Int(execution.cdb.uint32(at: 10))
        if length == 0 { return execution.succeed() }
        let limit = Self.headerByteCount + Self.listByteLimit
        guard (Self.headerByteCount...limit).contains(length) else {
            return execution.fail(Sense(.illegalRequest, .parameterListLengthError))
        }
        guard let list = execution.parameterList(byteCount: length) else { return }
        // The initiator begins anew with the identifier.
        if lastCopy?.isNamed(list[0], over: execution.path) == true { lastCopy = nil }
        switch copy(of: list) {
        case .failure(let sense): execution.fail(sense)
        case .segments(let segments): run(segments, list, execution)
        }
    }

    /// The segments of a parameter list, checked.
    private func copy(of list: [UInt8]) -> Copy {
        let targetByteCount = Int(list.bigEndian(UInt16.self, at: 2))
        let segmentByteCount = Int(list.bigEndian(UInt32.self, at: 8))
        let inlineByteCount = list.bigEndian(UInt32.self, at: 12)
        guard inlineByteCount == 0 else {
            return .failure(.invalidFieldInParameterList(byte: 12))
        }
        guard targetByteCount + segmentByteCount <= list.count - Self.headerByteCount else {
            return .failure(Sense(.illegalRequest, .parameterListLengthError))
        }
        guard targetByteCount % 32 == 0 else {
            return .failure(.invalidFieldInParameterList(byte: 2))
        }
        let segmentStart = Self.headerByteCount + targetByteCount
        let targets = Array(list[Self.headerByteCount..<segmentStart])
        switch reachableTargets(of: targets) {
        case .failure(let sense): return .failure(sense)
        case .reachable(let reachable):
            let bytes = Array(list[segmentStart..<segmentStart + segmentByteCount])
            return segments(of: bytes, reachable: reachable)
        }
    }

    private enum Targets {
        case reachable([Bool])
        case failure(Sense)
    }

    /// Of each target descriptor, whether it names this disk.
    private func reachableTargets(of bytes: [UInt8]) -> Targets {
        guard bytes.count / 32 <= Self.targetLimit else {
            return .failure(Sense(.illegalRequest, .tooManyTargetDescriptors))
        }
        var reachable: [Bool] = []
        for start in stride(from: 0, to: bytes.count, by: 32) {
            // Identification descriptor.
            guard bytes[start] == 0xE4 else {
                return .failure(Sense(.illegalRequest, .unsupportedTargetDescriptor))
            }
            let length = min(20, Int(bytes[start + 7]))
            let designator = Array(bytes[start + 8..<start + 8 + length])
            reachable.append(
                bytes[start + 5] & 0x3F == 0x03 && designator == identity.worldWideName)
        }
        return .reachable(reachable)
    }

    private func segments(of bytes: [UInt8], reachable: [Bool]) -> Copy {
        var segments: [CopySegment] = []
        var start = 0
        var count = 0
        while start < bytes.count {
            guard bytes.count - start >= 8 else {
                return .failure(Sense(.illegalRequest, .parameterListLengthError))
            }
            count += 1
            guard count <= Self.segmentLimit else {
                return .failure(Sense(.illegalRequest, .tooManySegmentDescriptors))
            }
            // Block to block.
            guard bytes[start] == 0x02 else {
                return .failure(Sense(.illegalRequest, .unsupportedSegmentDescriptor))
            }
            let end = start + 4 + Int(bytes.bigEndian(UInt16.self, at: start + 2))
            guard end == start + 28, end <= bytes.count else {
                return .failure(Sense(.illegalRequest, .parameterListLengthError))
            }
            let indices = [4, 6].map { Int(bytes.bigEndian(UInt16.self, at: start + $0)) }
            guard indices.allSatisfy({ $0 < reachable.count && reachable[$0] }) else {
                return .failure(Sense(.copyAborted, .copyTargetNotReachable))
            }
            let blocks = UInt64(bytes.bigEndian(UInt16.self, at: start + 10))
            let segment = CopySegment(
                source: BlockExtent(
                    first: bytes.bigEndian(UInt64.self, at: start + 12), count: blocks),
                destination: BlockExtent(
                    first: bytes.bigEndian(UInt64.self, at: start + 20), count: blocks))
            guard isWithinMedium(segment.source), isWithinMedium(segment.destination) else {
                return .failure(Sense(.copyAborted, .none))
            }
            if blocks > 0 { segments.append(segment) }
            start = end
        }
        return .segments(segments)
    }

    private func run(_ segments: [CopySegment], _ list: [UInt8], _ execution: Execution) {
        let extents = segments.flatMap { [$0.source, $0.destination] }
        let result = CopyResult(
            path: ObjectIdentifier(execution.path), listIdentifier: list[0],
            segmentCount: segments.count,
            byteCount: segments.reduce(0) { $0 + byteCount(of: $1.source) })
        // LIST ID USAGE 00b: the result is kept until it is asked for.
        let isKept = list[1] >> 3 & 0x03 == 0
        guard let first = extents.map(\.first).min(),
            let end = extents.map({ $0.first + $0.count }).max()
        else {
            if isKept { lastCopy = result }
            return execution.succeed()
        }
        let all = BlockExtent(first: first, count: end - first)
        guard taskSet.claim(all, for: execution.index, in: execution.commands) else { return }
        let operation = begin(execution)
        operation.copy(segments[...]) { [self] in
            if isKept { lastCopy = result }
            operation.succeedWithData()
        }
    }

    // MARK: RECEIVE COPY RESULTS

    func reportCopyStatus(_ execution: Execution) {
        guard let result = lastCopy, result.isNamed(execution.cdb[2], over: execution.path) else {
            return execution.fail(.invalidFieldInCDB(byte: 2))
        }
        lastCopy = nil
        // Completed without errors; the count is in bytes.
        var bytes: [UInt8] = [0, 0, 0, 8, 0x01]
        bytes.appendBigEndian(UInt16(result.segmentCount))
        bytes.append(0)
        bytes.appendBigEndian(UInt32(clamping: result.byteCount))
        execution.succeed(
            with: bytes, allocationLength: Int(execution.cdb.uint32(at: 10)))
    }

    func reportCopyParameters(_ execution: Execution) {
        var bytes = [UInt8](repeating: 0, count: 46)
        bytes.setBigEndian(UInt32(42), at: 0)
        bytes.setBigEndian(UInt16(Self.targetLimit), at: 8)
        bytes.setBigEndian(UInt16(Self.segmentLimit), at: 10)
        bytes.setBigEndian(UInt32(Self.listByteLimit), at: 12)
        bytes.setBigEndian(UInt32(Self.segmentBlockLimit * geometry.blockSize), at: 16)
        bytes[35] = 1  // total concurrent copies
        bytes[36] = 1  // concurrent copies of one initiator
        bytes[37] = UInt8(geometry.blockSize.trailingZeroBitCount)  // granularity
        bytes[43] = 2  // descriptor types: block to block, identification
        bytes[44] = 0x02
        bytes[45] = 0xE4
        execution.succeed(
            with: bytes, allocationLength: Int(execution.cdb.uint32(at: 10)))
    }
}

extension BlockOperation {
    /// Copies segment by segment, chunk by chunk.
    fileprivate func copy(
        _ segments: ArraySlice<Disk.CopySegment>, then end: @escaping () -> Void
    ) {
        guard let segment = segments.first else { return end() }
        let byteCount = min(DiskLimits.chunkByteCount, disk.byteCount(of: segment.source))
        copy(segment, done: 0, AlignedBuffer(byteCount: byteCount)) { [self] in
            copy(segments.dropFirst(), then: end)
        }
    }

    private func copy(
        _ segment: Disk.CopySegment, done: UInt64, _ buffer: AlignedBuffer,
        then end: @escaping () -> Void
    ) {
        guard done < segment.source.count else { return end() }
        let blockSize = disk.geometry.blockSize
        let count = min(segment.source.count - done, UInt64(buffer.byteCount / blockSize))
        let byteCount = Int(count) * blockSize
        read(first: segment.source.first + done, byteCount: byteCount, into: buffer) {
            [self] _ in
            write(
                buffer, byteCount: byteCount, first: segment.destination.first + done,
                isDurable: disk.isWriteThrough
            ) { [self] in copy(segment, done: done + count, buffer, then: end) }
        }
    }
}
