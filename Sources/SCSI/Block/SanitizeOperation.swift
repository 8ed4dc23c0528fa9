// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// A sanitize operation (SBC-3): works through the whole medium, then flushes it.
///
/// No command of the disk touches the medium meanwhile.
///
/// Lives on its device's thread.
final class SanitizeOperation: BlockRequestOwner {
    enum Method {
        /// Zeroes, and the space free.
        case erase
        /// A pattern that begins anew in each block; inverted after each pass with `inverts`.
        case overwrite([UInt8], passCount: Int, inverts: Bool)
    }

    /// Bytes that are cleared by one request.
    private static let clearByteCount: UInt64 = 1 << 30

    /// The place of the command that started it.
    let index: Int
    private let store: any BlockStore
    private let geometry: BlockGeometry
    private let inverts: Bool
    private let passCount: Int
    private let whenEnded: (BlockOutcome) -> Void
    /// What is written over the medium; nil while it is cleared by the store's own means.
    private var buffer: AlignedBuffer?
    private var pattern: [UInt8]
    private var pass = 0
    /// Blocks of this pass that are done, and those that the request under way covers.
    private var doneCount: UInt64 = 0
    private var partCount: UInt64 = 0
    private var isFlushing = false
    /// Itself, while the store works for it: the disk may go before, and stores keep no owner.
    private var kept: SanitizeOperation?

    init(
        _ method: Method, on disk: Disk, index: Int,
        whenEnded: @escaping (BlockOutcome) -> Void
    ) {
        store = disk.store
        geometry = disk.geometry
        self.index = index
        self.whenEnded = whenEnded
        switch method {
        case .erase:
            pattern = [0]
            passCount = 1
            inverts = false
        case .overwrite(let pattern, let passCount, let inverts):
            self.pattern = pattern
            self.passCount = passCount
            self.inverts = inverts
            makeBuffer()
        }
    }

    /// How much is done, in 65536ths.
    var progress: UInt16 {
        let done = Double(pass) * Double(geometry.blockCount) + Double(doneCount)
        let share = done / (Double(passCount) * Double(geometry.blockCount))
        return UInt16(max(0, min(65535, share * 65536)))
    }

    func start() {
        kept = self
        guard doneCount < geometry.blockCount else { return endPass() }
        let blockSize = UInt64(geometry.blockSize)
        let limit = buffer.map { UInt64($0.byteCount) } ?? Self.clearByteCount
        partCount = min(geometry.blockCount - doneCount, limit / blockSize)
        let byteCount = Int(partCount * blockSize)
        store.submit(
            BlockRequest(
                buffer == nil ? .writeZeroes(mayFree: true) : .write(isDurable: false),
                offset: doneCount * blockSize, byteCount: byteCount,
                pieces: buffer?.pieces(byteCount: byteCount)),
            owner: self, token: 0)
    }

    private func endPass() {
        pass += 1
        if pass == passCount {
            isFlushing = true
            return store.submit(BlockRequest(.flush), owner: self, token: 0)
        }
        doneCount = 0
        if inverts {
            pattern = pattern.map { ~$0 }
            makeBuffer()
        }
        start()
    }

    func blockRequestEnded(token: UInt64, outcome: BlockOutcome) {
        switch outcome {
        case .done where isFlushing: end(.done)
        case .done:
            doneCount += partCount
            start()
        case .unsupported where buffer == nil:
            makeBuffer()
            start()
        default: end(outcome)
        }
    }

    private func end(_ outcome: BlockOutcome) {
        let last = kept
        kept = nil
        withExtendedLifetime(last) { whenEnded(outcome) }
    }

    /// Whole blocks, as many as are written at once.
    private func makeBuffer() {
        let limit = UInt64(DiskLimits.chunkByteCount / geometry.blockSize)
        let blockCount = max(1, Int(min(limit, geometry.blockCount)))
        let made = AlignedBuffer(byteCount: blockCount * geometry.blockSize)
        made.fill(repeating: (0..<geometry.blockSize).map { pattern[$0 % pattern.count] })
        buffer = made
    }
}
