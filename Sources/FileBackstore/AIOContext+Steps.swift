// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import CLibaio
import CLinux
import Glibc
import LinuxIO

// MARK: Starting

extension AIOContext {
    /// Starts the request in a slot.
    ///
    /// Its owner hears of it later, never from here.
    func start(_ index: Int) {
        guard let store = requests[index].store else { return }
        let refusal = store.with { store in
            requests[index].lane =
                store.lane == .kernel && kernelRequestCount > 0 ? .kernel : .workers
            requests[index].mayNotWait =
                store.state.value.refusesToWait && requests[index].isTransfer
                && !requests[index].isRead
            return store.refusal(of: requests[index].request)
        }
        if let refusal { return endLater(index, refusal) }
        if requests[index].isTransfer {
            startStep(index)
        } else {
            startCommand(index)
        }
    }

    /// Ends the request at the end of this turn.
    @inline(never)
    func endLater(_ index: Int, _ outcome: BlockOutcome) {
        requests[index].outcome = outcome
        state.value.ended.append(index, in: requests)
        loop.deferWork(loopSide)
    }

    @inline(never)
    private func startCommand(_ index: Int) {
        if requests[index].request.operation != .flush {
            startRangeJob(index)
        } else if requests[index].lane == .kernel {
            enqueue(index)
        } else {
            startFlushJob(index)
        }
    }

    /// Prepares the next step of a transfer, and hands it to its lane.
    func startStep(_ index: Int) {
        guard let store = requests[index].store else { return }
        let alignment = store.with { $0.alignment }
        if !requests[index].mustBounce {
            if requests[index].doneByteCount > 0 {
                requests[index].takeRemainder()
            } else if !requests[index].takePieces(alignment: alignment) {
                requests[index].mustBounce = true
            }
        }
        if requests[index].mustBounce && !takeBounce(index) { return }
        send(index)
    }

    /// Takes a bounce buffer for the next step; false when the request has to wait for one.
    @inline(never)
    private func takeBounce(_ index: Int) -> Bool {
        guard let buffer = bounceBuffer(for: index) else {
            state.value.bounceWaiting.append(index, in: requests)
            return false
        }
        // SAFETY: a slot of the slab stays where it is; the piece in it describes the buffer.
        let piece = unsafe withUnsafeMutablePointer(to: &requests[index].bouncePiece) {
            unsafe $0
        }
        unsafe requests[index].takeBounce(state.value.bounce.address(of: buffer), piece: piece)
        return true
    }

    /// The buffer that the request has, or a free one; nil when its store has its share.
    private func bounceBuffer(for index: Int) -> Int? {
        if let buffer = requests[index].bounceBuffer { return buffer }
        guard mayTakeBounce(index), let buffer = state.value.bounce.take() else { return nil }
        requests[index].store?.with { $0.state.value.bounceCount += 1 }
        requests[index].bounceBuffer = buffer
        return buffer
    }

    /// Of several stores none takes all buffers; the rule is that of the slots.
    func mayTakeBounce(_ index: Int) -> Bool {
        guard state.value.storeCount > 1 else { return true }
        let taken = requests[index].store?.with { $0.state.value.bounceCount } ?? 0
        return taken <= 2 * state.value.bounce.freeCount - 2
    }

    /// Hands a prepared step to its lane.
    func send(_ index: Int) {
        if requests[index].lane == .kernel {
            enqueue(index)
        } else {
            startTransferJob(index)
        }
    }
}

// MARK: The kernel's lane

extension AIOContext {
    /// Adds the request to what is handed over at the end of the turn.
    private func enqueue(_ index: Int) {
        guard let store = requests[index].store else { return }
        let descriptor = store.with { $0.descriptorNumber }
        requests[index].fillControl(
            index: index, descriptor: descriptor, eventDescriptor: eventDescriptor)
        // SAFETY: a slot of the slab stays where it is until the context goes; the batch has room
        // for every slot, and a slot is in it at most once.
        unsafe batch[state.value.batchCount] = withUnsafeMutablePointer(
            to: &requests[index].control
        ) {
            unsafe $0
        }
        state.value.batchCount &+= 1
        // What the kernel had no room for waits for a request to end, and later ones behind it.
        if state.value.batchCount == 1 { loop.deferWork(loopSide) }
    }

    /// Hands the batch over, in one call unless the kernel takes only a part.
    func submitBatch() {
        var first = 0
        while first < state.value.batchCount {
            // SAFETY: the batch holds batchCount control blocks.
            let result = unsafe kernel.submit(batch + first, count: state.value.batchCount - first)
            if result > 0 {
                first += result
                state.value.countInKernel += result
            } else if result == -Int(EINTR) {
                continue
            } else if result == 0 || result == -Int(EAGAIN) {
                break
            } else {
                refuse(at: first, result: result)
                first += 1
            }
        }
        keepUnsent(from: first)
        while let index = state.value.refused.removeFirst(in: requests) {
            stepEnded(index, result: requests[index].step.byteCount)
        }
    }

    /// Notes what the kernel said of a control block that it would not take.
    private func refuse(at place: Int, result: Int) {
        guard let control = unsafe batch[place] else { return }
        // SAFETY: the control block lies in its slot.
        let index = unsafe Int(bitPattern: control.pointee.data)
        requests[index].step.byteCount = result
        state.value.refused.append(index, in: requests)
    }

    /// Keeps what the kernel had no room for until a request has ended, or for a millisecond when
    /// none is under way.
    private func keepUnsent(from first: Int) {
        let count = state.value.batchCount - first
        // SAFETY: both stretches lie within the batch.
        if first > 0, count > 0 { unsafe batch.update(from: batch + first, count: count) }
        state.value.batchCount = count
        if count > 0, state.value.countInKernel == 0 { setRetryTimer() }
    }

    /// Whether something has ended, as far as a look tells that makes no system call.
    @inline(__always)
    var seesEnded: Bool {
        if state.value.countInKernel == 0 || !looksForFree { return false }
        return unsafe !kernel.completions().isEmpty
    }

    /// Takes what has ended from the kernel.
    ///
    /// - Returns: whether anything has.
    @discardableResult
    func harvest() -> Bool {
        var isFound = false
        while true {
            let events = unsafe kernel.completions()
            if events.isEmpty { break }
            isFound = true
            state.value.countInKernel -= events.count
            for place in 0..<events.count {
                // SAFETY: the place is below the count; the kernel hands back what it was given.
                let index = unsafe Int(bitPattern: events[place].data)
                let result = unsafe Int(bitPattern: events[place].res)
                stepEnded(index, result: result)
            }
            kernel.consume(events.count)
        }
        if state.value.batchCount > 0 { loop.deferWork(loopSide) }
        return isFound
    }
}
