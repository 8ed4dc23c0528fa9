// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// A store that does nothing, or holds its bytes in memory; either way what it was asked in a turn
/// of the loop is done at the end of the turn.
final class PlainStore: BlockStore, DeferredWork {
    let geometry = BlockGeometry(blockSize: 512, blockCount: BackEnd.diskByteCount / 512)
    let isReadOnly = false
    var isWorkDeferred = false
    private let loop: EventLoop
    private let memory: UnsafeMutableRawBufferPointer?
    private let tokens: UnsafeMutablePointer<UInt64>
    private let state = Cell(State())

    private struct State {
        /// The disk; the only one that asks.
        var owner: (any BlockRequestOwner)?
        var count = 0
    }

    init(loop: EventLoop, holdsBytes: Bool) {
        self.loop = loop
        tokens = .allocate(capacity: 16384)
        memory =
            holdsBytes
            ? .allocate(byteCount: Int(BackEnd.diskByteCount), alignment: 4096) : nil
        memory?.initializeMemory(as: UInt8.self, repeating: 0)
    }

    deinit {
        tokens.deallocate()
        memory?.deallocate()
    }

    func submit(_ request: BlockRequest, owner: any BlockRequestOwner, token: UInt64) {
        if state.value.count == 0 {
            if state.value.owner == nil { state.value.owner = owner }
            loop.deferWork(self)
        }
        if memory != nil { move(request) }
        tokens[state.value.count] = token
        state.value.count += 1
    }

    private func move(_ request: BlockRequest) {
        guard let memory, let pieces = request.pieces, let base = memory.baseAddress else { return }
        let start = base + Int(request.offset)
        switch request.operation {
        case .read:
            pieces.store(bytes: RawSpan(_unsafeStart: start, byteCount: request.byteCount))
        case .write:
            var bytes = MutableRawSpan(_unsafeStart: start, byteCount: request.byteCount)
            pieces.copyBytes(into: &bytes)
        default: break
        }
    }

    func performDeferredWork() {
        guard let owner = state.value.owner else { return }
        let count = state.value.count
        for place in 0..<count { owner.blockRequestEnded(token: tokens[place], outcome: .done) }
        state.value.count = 0
    }

    func close() {}
}
