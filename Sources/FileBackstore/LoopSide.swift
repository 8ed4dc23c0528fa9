// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// What the loop calls, so that it does not keep the context alive.
///
/// The context clears the reference when it goes.
final class LoopSide: EventHandler, DeferredWork, TimerHandler, Pollable {
    let context = Cell<BorrowedReference<AIOContext>?>(nil)
    private let isDeferred = Cell(false)

    var isWorkDeferred: Bool {
        get { isDeferred.value }
        set { isDeferred.value = newValue }
    }

    /// The context, held while it works: the last store that ends may let it go.
    private var held: AIOContext? { context.value?.with { $0 } }

    func descriptorReady(_ readiness: Readiness, tag: Int) {
        guard let context = held, context.harvest() else { return }
        // When these are answered there may be more.
        context.loop.deferWork(self)
    }

    func performDeferredWork() {
        guard let context = held else { return }
        context.deliverEnded()
        context.submitBatch()
        // The first of a batch may have ended before the last one is handed over.
        if context.seesEnded && context.harvest() { context.loop.deferWork(self) }
    }

    func poll() -> Bool {
        guard let context = context.value, context.with({ $0.seesEnded }) else { return false }
        return held?.harvest() ?? false
    }

    func prepareToSleep() -> Bool { poll() }

    var awaitsCompletions: Bool { context.value?.with { $0.hasRequests } ?? false }

    func timerFired(tag: Int) {
        held?.retry()
    }
}

/// What the completion port calls.
///
/// The port holds it weakly, which makes counting references to it slow: so the loop's side is kept
/// apart.
final class WorkerSide: CompletionHandler {
    let context = Cell<BorrowedReference<AIOContext>?>(nil)

    func workCompleted(token: UInt64, result: Int) {
        let held = context.value?.with { $0 }
        held?.stepEnded(Int(token), result: result)
    }
}
